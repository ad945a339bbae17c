"""Watches the certificate's end: warns at 30, 7 and 1 days, and has it renewed before.

The uplink reads the files at each connection, so a renewed certificate is taken at the next one, and the one that
is open stays: nothing is interrupted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from openami.clock import Clock
from openami.gateway.certificate import valid_until
from openami.gateway.enrolment import EnrolmentFailed, GatewayKeys, renew
from openami.gateway.entries import Draft, Kind
from openami.gateway.event_types import EventType
from openami.gateway.events import clock_reading, event_envelope
from openami.gateway.normalise import Source, to_the_millisecond
from openami.gateway.snapshot import UplinkView
from openami.keyfiles import KeyFileError, read_private
from openami.pki.certificates import CertificateError, read_certificate, renewal_due
from openami.pki.enrolment import EnrolmentError
from openami.pki.expiry import Warned, warning
from openami.pki.names import BadName
from openami.profile import EventState, MeterSerial, Quality

# A certificate has four months left when it is first asked for anew; an hour is soon enough, and no flood
# for a server that is away.
LOOK_INTERVAL_S: Final = 3600.0

_log = structlog.get_logger(__name__)

Append = Callable[[Sequence[Draft]], Awaitable[None]]


class CertificateWatch:
    """The one place that knows when the certificate to the broker ends."""

    def __init__(
        self,
        cert_file: Path,
        *,
        keys: GatewayKeys | None,
        url: str,
        source: Source,
        clock: Clock,
        clock_trusted: Callable[[], bool],
        view: UplinkView,
        append: Append,
    ) -> None:
        self._cert_file = cert_file
        self._keys = keys
        self._url = url
        self._source = source
        self._clock = clock
        self._clock_trusted = clock_trusted
        self._view = view
        self._append = append
        self._warned: Warned | None = None

    async def run(self) -> None:
        """Look, warn, renew, wait; for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Renew what is due, then warn of what is left."""
        if self._keys is not None and self._url and self._clock_trusted():
            await asyncio.to_thread(self._renew_if_due, self._keys)
        until = self._read_until()
        self._view.certificate_until = until
        if until is None or not self._clock_trusted():
            return
        due = warning(until, self._clock.now(), self._warned)
        if due is not None:
            self._warned = due
            await self._warn(until)

    def _read_until(self) -> datetime | None:
        try:
            return valid_until(self._cert_file.read_text("ascii", "replace"))
        except OSError as error:
            _log.error("certificate cannot be read", file=str(self._cert_file), reason=str(error))
            return None

    def _renew_if_due(self, keys: GatewayKeys) -> None:
        """A server that is away is no news every hour; what is left is told by the warnings."""
        try:
            certificate = read_certificate(read_private(keys.transport_file))
            if not renewal_due(certificate, self._clock.now()):
                return
            answer = renew(keys, url=self._url, now=self._clock.now())
        except (EnrolmentFailed, KeyFileError) as error:
            _log.warning("certificate not renewed", reason=str(error), remedy=error.remedy)
        except (EnrolmentError, CertificateError, BadName) as error:
            _log.warning("certificate not renewed", reason=str(error))
        else:
            until = answer.certificate.not_valid_after_utc
            _log.info("certificate renewed", until=until.isoformat())

    async def _warn(self, until: datetime) -> None:
        now, boottime_s = self._clock.now(), self._clock.boottime()
        detail = (
            f"the certificate to the broker expired on {until:%Y-%m-%d}: no connection can be opened"
            if until <= now
            else f"the certificate to the broker ends on {until:%Y-%m-%d}, in {(until - now).days} days"
        )
        _log.warning("certificate_expiring", about=detail)
        await self._append([_draft(self._source, now, boottime_s, detail)])


def _draft(source: Source, now: datetime, boottime_s: float, detail: str) -> Draft:
    moment = to_the_millisecond(now)
    envelope = event_envelope(
        EventType.CERTIFICATE_EXPIRING,
        EventState.INSTANT,
        source=source,
        serial=MeterSerial(source.gateway_id),
        occurred_at=moment,
        registers=(clock_reading(moment, Quality.GOOD),),
        ts=moment,
        detail=detail,
    )
    return Draft(envelope, Kind.EVENT, boottime_s=boottime_s)
