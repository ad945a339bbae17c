"""Keep the files of others: `python tools/vendor.py [TARBALL …]`; with --check, see whether all is as written.

Reads vendor.toml. A tarball given by name is used, one that is missing is fetched; either must have the hash that
is written there. The files named are kept in vendor/, or where ``into`` says, the bundles go to the console's
static files, and the licence texts to THIRD_PARTY_NOTICES, which is part of the wheel.
"""

import hashlib
import io
import sys
import tarfile
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "src/openami/headend/web/console/static"
NOTICES = ROOT / "THIRD_PARTY_NOTICES"
# The largest of them has two megabytes.
TARBALL_BYTES_MAX = 16 * 1024 * 1024
FETCH_S = 60


def main(arguments: list[str]) -> int:
    """Fetch and write, or check; 1 when something is not as vendor.toml has it."""
    wanted = tomllib.loads((ROOT / "vendor.toml").read_text())
    if arguments != ["--check"]:
        given = {_sha256(data): data for data in (Path(name).read_bytes() for name in arguments)}
        for package in wanted["package"]:
            _keep(package, given.get(package["sha256"]) or _fetched(package["tarball"]))
        for path, text in written(wanted).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    stale = [path for path, text in written(wanted).items() if path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} is stale: run python tools/vendor.py", file=sys.stderr)
    return bool(stale)


def written(wanted: Mapping[str, Any]) -> dict[Path, str]:
    """Return what is made of vendor/ and our own scripts, by its path."""
    files = {
        STATIC / bundle["file"]: "\n".join((ROOT / part).read_text() for part in bundle["parts"])
        for bundle in wanted["bundle"]
    }
    notices = ["This package carries these files of others.\n"]
    for package in wanted["package"]:
        licence = (_home(package) / "LICENSE").read_text()
        names = ", ".join(Path(name).name for name in package["files"])
        title = f"{package['name']} {package['version']} ({package['licence']}): {names}"
        notices.append(f"{title}\n{'-' * len(title)}\n\n{licence.strip()}\n")
    return files | {NOTICES: "\n".join(notices)}


def _keep(package: Mapping[str, Any], tarball: bytes) -> None:
    if (found := _sha256(tarball)) != package["sha256"]:
        raise SystemExit(f"{package['name']}: the tarball's sha256 is {found}, not as written")
    home = _home(package)
    into = ROOT / package["into"] if "into" in package else home
    top = package.get("top", "package")
    for directory in (home, into):
        directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        for name in package["files"]:
            (into / Path(name).name).write_bytes(_member(archive, f"{top}/{name}"))
        (home / "LICENSE").write_bytes(_member(archive, f"{top}/{package['licence_file']}"))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None, name
    return member.read()


def _home(package: Mapping[str, Any]) -> Path:
    return ROOT / "vendor" / f"{package['name']}-{package['version']}"


def _fetched(url: str) -> bytes:
    if not url.startswith("https://"):
        raise SystemExit(f"{url}: only https")
    with urllib.request.urlopen(url, timeout=FETCH_S) as answer:  # noqa: S310 - checked above
        data: bytes = answer.read(TARBALL_BYTES_MAX)
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
