"""The control hook: an external program of the vendor's that does to the bench what a person would.

    HOOK verbs                    prints the verbs it knows, separated by spaces or lines
    HOOK unplug METER             takes the meter off its line
    HOOK plug METER               puts it back
    HOOK relay METER              prints `connected` or `disconnected`: where the relay is, not what was ordered
    HOOK reboot                   starts the gateway anew
    HOOK disconnect METER         of a head-end: orders the relay
    HOOK reconnect METER

A verb it does not know is asked of a person instead. It ends with 0 when what was asked is done; anything else is
a failure, and the last line of what it says on stderr is told.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# A program that talks to a relay board or a power socket over a slow network.
HOOK_S_MAX: Final = 60.0
# An answer is a word; what a program says when it fails is a few lines.
ANSWER_BYTES_MAX: Final = 16 * 1024
# Told to end, it closes its connections.
END_S_MAX: Final = 2.0
_SAID_CHARS_MAX: Final = 200


class HookFailed(Exception):
    """The hook did not do what it was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Hook:
    """The program and its own first arguments."""

    command: Sequence[str]
    ends_within_s: float = HOOK_S_MAX

    async def verbs(self) -> frozenset[str]:
        """Return what it can do. Raises HookFailed."""
        return frozenset((await self._asked("verbs")).split())

    async def do(self, verb: str, *words: str) -> None:
        """Have it do something. Raises HookFailed."""
        await self._asked(verb, *words)

    async def relay(self, meter_serial: str) -> bool:
        """Return whether a meter's relay is closed, so that its house has power. Raises HookFailed."""
        answer = (await self._asked("relay", meter_serial)).strip()
        if answer not in ("connected", "disconnected"):
            raise HookFailed(
                f"the hook's `relay {meter_serial}` printed {answer[:_SAID_CHARS_MAX]!r}; "
                "connected or disconnected is asked for"
            )
        return answer == "connected"

    async def _asked(self, *words: str) -> str:
        command = (*self.command, *words)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=ANSWER_BYTES_MAX,
            )
        except OSError as error:
            raise HookFailed(f"{self.command[0]} cannot be run: {error.strerror}") from None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(self.ends_within_s):
                answer, said, code = await asyncio.gather(
                    _first_bytes(process.stdout), _first_bytes(process.stderr), process.wait()
                )
        except TimeoutError:
            raise HookFailed(
                f"the hook's `{' '.join(words)}` has not ended after {self.ends_within_s:g} s"
            ) from None
        finally:
            await _ended(process)
        if code != 0:
            last = said.decode(errors="replace").strip().splitlines()
            why = last[-1][:_SAID_CHARS_MAX] if last else "it said nothing"
            raise HookFailed(f"the hook's `{' '.join(words)}` ended with {code}: {why}")
        return answer.decode(errors="replace")


async def _first_bytes(stream: asyncio.StreamReader) -> bytes:
    """Return the beginning of what is said, and read the rest away: a full pipe would stop the program."""
    kept = b""
    while chunk := await stream.read(ANSWER_BYTES_MAX):
        kept += chunk[: ANSWER_BYTES_MAX - len(kept)]
    return kept


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_S_MAX):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
