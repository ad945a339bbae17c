"""Telling systemd that we are up, alive, and going: ``sd_notify(3)`` in a few lines."""

import socket
from typing import Final

# A manager that does not take a datagram at once gets it the next time; the gateway does not wait.
_SEND_TIMEOUT_S: Final = 1.0


class ServiceManager:
    """The service manager's socket; says nothing where there is none."""

    def __init__(self, address: str) -> None:
        # A leading @ stands for Linux's abstract names, which begin with a NUL.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self) -> None:
        """Say that the gateway does its work now."""
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
