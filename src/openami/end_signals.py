"""How the service manager, or a person at the terminal, tells a program to end."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_to_end(
    tell: Callable[[], object], signals: Sequence[signal.Signals] = END_SIGNALS
) -> Iterator[None]:
    """Within an event loop, call ``tell`` for each of these signals instead of dying of it."""
    loop = asyncio.get_running_loop()
    for each in signals:
        loop.add_signal_handler(each, tell)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
