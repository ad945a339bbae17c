"""The adapter under test as a process: asked case by case, and started anew when it falls.

Whatever it does, crash, hang, babble, a run goes on: a case without an answer is one case lost.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from openami.conformance.adapter_contract import (
    ANSWER_BYTES_MAX,
    Answer,
    Question,
    Silence,
    read_answer,
    short,
)

# A reader answers in microseconds; a virtual machine needs a second or two before its first answer.
ANSWER_WAIT_S: Final = 10.0
# Who hangs at so many cases one after the other hangs at all of them: the run shall end today.
HANGS_MAX: Final = 5
# What a program says as it dies: the last lines of a stack trace.
_STDERR_BYTES_MAX: Final = 2_000
# One that closed its output ends at once, and a killed one unless the kernel holds it.
_END_WAIT_S: Final = 1.0


class AdapterError(Exception):
    """The adapter cannot be started."""


class AdapterProcess:
    """An adapter's command, running while there are questions.

    Each start is a process group of its own, which is killed whole: what an adapter started goes with it.
    """

    def __init__(self, command: Sequence[str], *, answer_wait_s: float = ANSWER_WAIT_S) -> None:
        self._command = command
        self._answer_wait_s = answer_wait_s
        self._process: asyncio.subprocess.Process | None = None
        self._told = b""
        self._listening: asyncio.Task[None] | None = None
        self._hangs = 0

    async def __aenter__(self) -> Self:
        """Start it once, so that a command that is none is told before the first case. Raises AdapterError."""
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        await self._end()

    async def ask(self, question: Question) -> Answer | Silence:
        """Put one question and wait for the answer, or for what comes instead."""
        if self._hangs >= HANGS_MAX:
            return Silence(
                "not asked", f"it hung at {HANGS_MAX} cases in a row: the rest is left out"
            )
        found = await self._ask(question)
        if isinstance(found, Silence) and found.how == "ended":
            # It may end after an answer, in good order: then this case was put to one that was leaving.
            found = await self._ask(question)
        self._hangs = self._hangs + 1 if isinstance(found, Silence) and found.how == "hung" else 0
        return found

    async def _ask(self, question: Question) -> Answer | Silence:
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._answer_wait_s):
                # One that has gone cannot be written to; its end says more than the broken pipe.
                with contextlib.suppress(ConnectionError):
                    process.stdin.write(question.line())
                    await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError:
            await self._end()
            return Silence(
                "hung", f"no answer within {self._answer_wait_s:g} s{self._last_words()}"
            )
        except ValueError:  # what `readline` says of a line beyond the stream's limit
            await self._end()
            return Silence("too much output", f"a line of more than {ANSWER_BYTES_MAX} bytes")
        if not line.endswith(b"\n"):
            return await self._without_answer(line)
        found = read_answer(line, case=question.case)
        if isinstance(found, Silence):
            await self._end()  # what else it has in its pipe would be taken for the next answer
        return found

    async def _without_answer(self, rest: bytes) -> Silence:
        """Say how a process ended that closed its output."""
        process = self._process
        assert process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_WAIT_S):
                await process.wait()
        assert self._listening is not None
        await asyncio.wait({self._listening}, timeout=_END_WAIT_S)
        code = process.returncode
        await self._end()
        if code is None:
            return Silence("crashed", "it closed its output and runs on")
        if code < 0:
            name = signal.Signals(-code).name
            return Silence("crashed", f"ended by {name}{self._last_words()}")
        if code or rest:
            half = ", in the middle of a line" if rest else ""
            return Silence("crashed", f"ended with code {code}{half}{self._last_words()}")
        return Silence("ended", "it ended without an answer, with code 0")

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=ANSWER_BYTES_MAX,
                start_new_session=True,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise AdapterError(f"{self._command[0]} cannot be started: {reason}") from None
        assert process.stderr is not None
        self._process = process
        self._told = b""
        self._listening = asyncio.create_task(self._listen(process.stderr), name="adapter's stderr")
        return process

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Read what it says to a person, so that it never waits for a reader; keep the end of it."""
        while piece := await stderr.read(_STDERR_BYTES_MAX):
            self._told = (self._told + piece)[-_STDERR_BYTES_MAX:]

    async def _end(self) -> None:
        process, self._process = self._process, None
        listening, self._listening = self._listening, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        assert listening is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_WAIT_S):
                while await process.stdout.read(ANSWER_BYTES_MAX):  # what the dead left in the pipe
                    pass
                await process.wait()
                await listening
        listening.cancel()

    def _last_words(self) -> str:
        lines = self._told.decode(errors="replace").strip().splitlines()
        return f"; it said: {short(lines[-1].strip())}" if lines else ""
