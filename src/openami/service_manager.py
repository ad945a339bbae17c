"""Telling systemd that we are up, alive, and going: ``sd_notify(3)`` in a few lines."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# A manager that does not take a datagram at once gets it the next time; no program of ours waits for it.
_SEND_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What the service manager asks for in the environment."""

    notify_socket: str = ""
    watchdog_s: float | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "ServiceSettings":
        """Read systemd's variables; ones of another form are as good as none."""
        microseconds = environ.get("WATCHDOG_USEC", "")
        watchdog_s = int(microseconds) / 1e6 if microseconds.isdecimal() else None
        return cls(environ.get("NOTIFY_SOCKET", ""), watchdog_s or None)


class ServiceManager:
    """The service manager's socket; says nothing where there is none."""

    def __init__(self, address: str) -> None:
        # A leading @ stands for Linux's abstract names, which begin with a NUL.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self) -> None:
        """Say that the program does its work now."""
        self._say("READY=1")

    def alive(self) -> None:
        """Say that the loop that does the work has turned: feeds the watchdog."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._say("STOPPING=1")

    def _say(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(_SEND_TIMEOUT_S)
            try:
                datagrams.sendto(state.encode(), self._address)
            except OSError:
                return  # a manager that went away; it will not come back by our complaining
