"""The real programs the tests run against, and what to do where one is not installed."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Debian keeps servers where a user's PATH does not look.
_EXTRA_PATHS = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/postgresql/15/bin")


def find_tool(name: str) -> Path | None:
    """Return where a program is, or None where it is not installed."""
    places = os.pathsep.join((os.environ.get("PATH", ""), *_EXTRA_PATHS))
    found = shutil.which(name, path=places)
    return None if found is None else Path(found)


def require_tool(name: str) -> Path:
    """Return where a program is; skip the test without it, or fail with OPENAMI_REQUIRE_TOOLS=1.

    A skip must never look like a pass: the machine that decides about a release sets the variable.
    """
    found = find_tool(name)
    if found is not None:
        return found
    reason = f"{name} is not installed: .ci/run installs what the tests need"
    if os.environ.get("OPENAMI_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Return a loopback TCP port nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def scratch_directory(user: str | None = None) -> Iterator[Path]:
    """Yield a directory that is gone afterwards; owned by ``user`` when we are root.

    pytest's own directories are closed to every user but the one who runs the tests, and servers
    that refuse to run as root would not get in.
    """
    directory = Path(tempfile.mkdtemp(prefix="openami-test-"))
    try:
        if user is not None and os.geteuid() == 0:
            shutil.chown(directory, user)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
