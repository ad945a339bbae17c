"""Every wheel that a site without Internet needs, for one Python and two processors: `make wheelhouse`.

    python -m tools.wheelhouse DIRECTORY [EXTRAS]

Makes DIRECTORY/x86_64 and DIRECTORY/aarch64, each with the wheels in the versions of constraints.txt, our own among
them, and a requirements.txt that names each by its SHA-256. Nothing is compiled: a package without a wheel for a
processor ends it.
"""

import hashlib
import subprocess
import sys
import tempfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Final
from zipfile import ZipFile

ROOT: Final = Path(__file__).parents[1]
# Debian 12, and Raspberry Pi OS of the same year: Python 3.11, glibc 2.36.
PYTHON: Final = "3.11"
GLIBC_MINORS: Final = (36, 35, 34, 31, 28, 27, 26, 24, 17)
PROCESSORS: Final = ("x86_64", "aarch64")
# Oldest names of the same thing, where a processor had them.
_OLD_NAMES: Final = {
    "x86_64": ("manylinux2014", "manylinux2010", "manylinux1"),
    "aarch64": ("manylinux2014",),
}
# What a site runs; the kit of conformance, columns and traces are for a desk with a network.
EXTRAS: Final = "gateway,headend,bridge,postgres"


def platforms(processor: str) -> list[str]:
    """Return the names of the platforms whose wheels run there."""
    names = [f"manylinux_2_{minor}" for minor in GLIBC_MINORS]
    return [f"{name}_{processor}" for name in (*names, *_OLD_NAMES[processor])]


def fill(directory: Path, processor: str, ours: Path, extras: str) -> None:
    """Put every wheel for a processor into a directory, ours among them, and the list of them."""
    directory.mkdir(parents=True)
    _pip(
        *("download", "--quiet", "--only-binary=:all:", "--dest", str(directory)),
        *(
            "--python-version",
            PYTHON,
            "--implementation",
            "cp",
            "--abi",
            f"cp{PYTHON.replace('.', '')}",
        ),
        *("--abi", "abi3", "--abi", "none"),
        *(word for name in platforms(processor) for word in ("--platform", name)),
        *("--constraint", str(ROOT / "constraints.txt"), f"{ours}[{extras}]"),
    )
    lines = [
        f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        for wheel in sorted(directory.glob("*.whl"))
        for name, version in [identity(wheel)]
    ]
    (directory / "requirements.txt").write_text("".join(lines))


def identity(wheel: Path) -> tuple[str, str]:
    """Return a wheel's name and version, as its own metadata tells."""
    with ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        told = HeaderParser().parsestr(archive.read(name).decode())
    return told["Name"], told["Version"]


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def main() -> None:
    target, extras = Path(sys.argv[1]), (sys.argv[2:] or [EXTRAS])[0]
    with tempfile.TemporaryDirectory() as directory:
        _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", directory, str(ROOT))
        [ours] = Path(directory).glob("openami-*.whl")
        for processor in PROCESSORS:
            fill(target / processor, processor, ours, extras)
    for processor in PROCESSORS:
        wheels = list((target / processor).glob("*.whl"))
        size = sum(wheel.stat().st_size for wheel in wheels)
        print(f"{target / processor}: {len(wheels)} wheels, {size / 1e6:.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
