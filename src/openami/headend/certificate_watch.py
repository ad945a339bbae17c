"""Watches the end of the head-end's own certificate: said in the log 30, 7 and 1 days before.

It is renewed by `openami headend renew`, and read at the next connection.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from openami.clock import Clock
from openami.pki.certificates import CertificateError, read_certificate
from openami.pki.expiry import Warned, warning

LOOK_INTERVAL_S: Final = 3600.0  # the first warning comes a month before the end

_log = structlog.get_logger(__name__)


async def watch_certificate(
    cert_file: Path, clock: Clock, *, seen: Callable[[datetime], None] = lambda _: None
) -> None:
    """Look, say, wait; for ever. ``seen`` is told the end of validity at each look."""
    warned: Warned | None = None
    while True:
        warned = look(cert_file, clock, warned, seen=seen) or warned
        await asyncio.sleep(LOOK_INTERVAL_S)


def look(
    cert_file: Path,
    clock: Clock,
    warned: Warned | None,
    *,
    seen: Callable[[datetime], None] = lambda _: None,
) -> Warned | None:
    """Say what is due of the certificate's end; return the warning that was given, if one was."""
    try:
        until = read_certificate(cert_file.read_bytes()).not_valid_after_utc
    except (OSError, CertificateError) as error:
        _log.error("certificate cannot be read", file=str(cert_file), reason=str(error))
        return None
    seen(until)
    due = warning(until, clock.now(), warned)
    if due is not None:
        _log.warning(
            "certificate_expiring",
            file=str(cert_file),
            until=until.isoformat(),
            remedy="openami headend renew; run it daily",
        )
    return due
