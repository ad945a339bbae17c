"""uvicorn as one task of a program: the signals and the log are the program's own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp


class WebServer(uvicorn.Server):
    """Answers for an application by HTTP/1.1; ``more`` are settings of uvicorn's."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        connections_max: int,
        keep_alive_s: int,
        end_s_max: int,
        **more: Any,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=connections_max,
                timeout_keep_alive=keep_alive_s,
                timeout_graceful_shutdown=end_s_max,
                **more,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def answer(self, listener: socket) -> None:
        """Answer on a socket that listens already, until cancelled."""
        serving = asyncio.ensure_future(self.serve([listener]))
        try:
            await asyncio.shield(serving)
        finally:
            self.should_exit = True
            await serving
