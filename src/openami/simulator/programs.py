"""The demo's other processes: started, watched, and never left behind."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# A program that has been told to end finishes its batch and closes its database; it gets no more.
STOP_S_MAX = 5.0
# What of a failed program's last words is repeated to the person.
_LAST_WORDS_CHARS_MAX = 400


class PartFailed(Exception):
    """A part of the demo cannot start or has ended by itself; the message says which and why."""


class Program:
    """One ``openami`` command in a process and a session of its own.

    The session keeps the terminal's Ctrl-C from it: it is the demo that decides in which order the
    parts end. Its output goes to a log file. ``within`` goes before the command: a namespace to run it in.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, log: Path, within: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._within = within
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it, or start it again after its end."""
        assert self._process is None or self._process.returncode is not None
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_dying_with_us((*self._within, sys.executable, "-m", "openami", *self._arguments)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(os.environ),
                start_new_session=True,
            )

    async def stop(self) -> None:
        """Tell it to end, wait, and end it if it does not listen. Nothing if it has ended."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def check(self) -> None:
        """Raise PartFailed if it has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise PartFailed(
                f"the {self.name} has ended with exit code {self._process.returncode}: "
                f"{self.last_words()}"
            )

    def has_said(self, words: str) -> bool:
        """Return whether these words stand in its log."""
        return self._log.exists() and words in self._log.read_text(errors="replace")

    def last_words(self) -> str:
        """Return the end of its log, in one line."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return (lines[-1] if lines else "it said nothing")[-_LAST_WORDS_CHARS_MAX:]


def _dying_with_us(command: Sequence[str]) -> Sequence[str]:
    """Let the kernel tell it to end when we are killed and cannot (setpriv: Debian's util-linux)."""
    setpriv = shutil.which("setpriv")
    return command if setpriv is None else (setpriv, "--pdeathsig", "TERM", *command)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without what would configure the parts behind the demo's back."""
    return {name: value for name, value in ours.items() if not name.startswith("OPENAMI_")}
