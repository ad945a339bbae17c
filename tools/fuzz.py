"""Fuzz the surfaces for as long as there is time: coverage-guided with atheris, blindly without it.

    python tools/fuzz.py                            every target for a minute
    python tools/fuzz.py store --minutes 60         one of them for an hour
    python tools/fuzz.py --list                     what there is

The targets are those of tests/fuzz. An input that fails is made as small as it can be and written to
`.fuzz/failed/TARGET/`; once the fault is mended it belongs into `tests/fuzz/corpus/TARGET/`. The run goes on
after a fault, and tells each place of failure once. Exit code 1 when there was one.
"""

import argparse
import hashlib
import logging
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
OURS: Final = (str(ROOT / "src"), str(ROOT / "tests"))
GROWN: Final = ROOT / ".fuzz" / "grown"
FAILED: Final = ROOT / ".fuzz" / "failed"
# Larger than any message a surface reads, so that its bound is met as well.
INPUT_BYTES_MAX: Final = 96 * 1024
SHRINK_S_MAX: Final = 5.0  # a larger witness is better than an hour less of fuzzing
HINT: Final = (
    "atheris is not installed, so chance alone leads; for coverage: .venv/bin/pip install atheris"
)

Place = tuple[str, str, int]


class Watched:
    """A target that counts its executions, notes where it fails, and stops in time."""

    def __init__(self, name: str, run: Callable[[bytes], None], until: float) -> None:
        self.name = name
        self.executions = 0
        self.places: dict[Place, Path] = {}
        self._run = run
        self._until = until
        self._began = time.monotonic()

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._until

    def __call__(self, data: bytes) -> None:
        self.executions += 1
        place = self.place_of_failure(data)
        if place is not None and place not in self.places:
            self.places[place] = self._keep(self._shrunk(data, place), place)

    def place_of_failure(self, data: bytes) -> Place | None:
        """Return the type of what left the target and our line it came through last; None when it held."""
        try:
            self._run(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if frame.filename.startswith(OURS)]
            frame = (ours or frames)[-1]
            return type(error).__name__, frame.filename, frame.lineno or 0
        return None

    def _shrunk(self, data: bytes, place: Place) -> bytes:
        """Leave out pieces, large ones first, while it still fails at the same place."""
        until = time.monotonic() + SHRINK_S_MAX
        size = len(data)
        while size := size // 2:
            at = 0
            while at < len(data) and time.monotonic() < until:
                shorter = data[:at] + data[at + size :]
                if self.place_of_failure(shorter) == place:
                    data = shorter
                else:
                    at += size
        return data

    def _keep(self, data: bytes, place: Place) -> Path:
        file = FAILED / self.name / hashlib.sha256(data).hexdigest()[:12]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        print(
            f"{self.name}: {place[0]} at {place[1]}:{place[2]}, {len(data)} bytes: {file}",
            flush=True,
        )
        return file

    def end(self) -> int:
        """Say what was done; return the exit code."""
        passed_s = time.monotonic() - self._began
        print(
            f"{self.name}: {self.executions} executions in {passed_s:.0f} s, "
            f"{len(self.places)} places of failure",
            flush=True,
        )
        return 1 if self.places else 0


def main() -> int:
    options = _options()
    if not options.targets or len(options.targets) > 1 or options.list:
        return _each(options)
    return _fuzz(options.targets[0], options.minutes * 60, options.seed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="fuzz the surfaces of tests/fuzz")
    parser.add_argument("targets", nargs="*", help="all of them when none is named")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="of the chances; 0 draws one")
    parser.add_argument(
        "--list", action="store_true", help="print the targets and their invariants"
    )
    return parser.parse_args()


def _each(options: argparse.Namespace) -> int:
    """One process for a target: what one of them breaks does not reach the next."""
    sys.path.insert(0, str(ROOT))
    from tests.fuzz.targets import TARGETS

    if options.list:
        for target in TARGETS.values():
            print(f"{target.name:24}{(target.run.__doc__ or '').splitlines()[0]}")
        return 0
    said = ("--minutes", str(options.minutes), "--seed", str(options.seed))
    codes = [
        subprocess.run([sys.executable, __file__, name, *said], check=False).returncode
        for name in options.targets or TARGETS
    ]
    return max(codes)


def _fuzz(name: str, seconds: float, seed: int) -> int:
    logging.disable()  # what a program would say of each spoilt input
    sys.path.insert(0, str(ROOT))
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None:
        from tests.fuzz.targets import TARGETS, sound
    else:
        with atheris.instrument_imports(include=["openami"]):
            from tests.fuzz.targets import TARGETS, sound
    if name not in TARGETS:
        print(f"no target is called {name}; --list tells which there are", file=sys.stderr)
        return 2
    target = TARGETS[name]
    seeds = sound(target)
    watched = Watched(name, target.run, time.monotonic() + seconds)
    seed = seed or int.from_bytes(os.urandom(3), "big") + 1
    if atheris is None:
        print(HINT, file=sys.stderr)
        return _by_chance(watched, seeds, random.Random(seed))
    return _by_coverage(atheris, watched, seeds, seed)


def _by_chance(watched: Watched, seeds: Sequence[bytes], chance: random.Random) -> int:
    from tests.fuzz.mutation import mutated

    while not watched.is_over:
        watched(mutated(chance.choice(seeds), seeds, chance))
    return watched.end()


def _by_coverage(atheris, watched: Watched, seeds: Sequence[bytes], seed: int) -> int:
    from tests.fuzz.mutation import mutated

    grown = GROWN / watched.name
    grown.mkdir(parents=True, exist_ok=True)
    for data in seeds:
        (grown / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)

    def one(data: bytes) -> None:
        if watched.is_over:
            sys.stdout.flush()
            os._exit(watched.end())  # libFuzzer has no other end
        watched(data)

    def mutator(data: bytes, size_max: int, chance_seed: int) -> bytes:
        """Half of the changes know the grammar, half are libFuzzer's own."""
        if chance_seed % 2:
            return atheris.Mutate(data, size_max)
        return mutated(data, seeds, random.Random(chance_seed))[:size_max]

    arguments = [
        sys.argv[0],
        f"-max_len={INPUT_BYTES_MAX}",
        f"-seed={seed}",
        "-timeout=60",
        "-rss_limit_mb=1024",
        "-verbosity=0",
        "-print_final_stats=0",
        f"-artifact_prefix={FAILED / watched.name}-",
        str(grown),
    ]
    FAILED.mkdir(parents=True, exist_ok=True)
    atheris.Setup(arguments, one, custom_mutator=mutator)
    atheris.Fuzz()
    return watched.end()


if __name__ == "__main__":
    sys.exit(main())
