"""A small disk of its own, and somebody who fills it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_MIB = 1024 * 1024
DISK_BYTES = 24 * _MIB


@contextmanager
def mounted(place: Path, size: int = DISK_BYTES) -> Iterator[Path]:
    """Mount a small disk in memory; skip the test where that is not permitted."""
    mount = shutil.which("mount", path="/usr/bin:/bin:/usr/sbin:/sbin")
    place.mkdir()
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "openami-test", str(place)],
        capture_output=True,
        check=False,
    )
    if not done or done.returncode:
        reason = "a small disk cannot be mounted: that needs root"
        if os.environ.get("OPENAMI_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take every byte that is left, as a log file does."""
    filler = disk / "somebody-elses.log"
    with filler.open("ab", buffering=0) as file:
        for size in (_MIB, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return filler
