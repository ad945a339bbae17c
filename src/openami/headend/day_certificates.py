"""Daily certificates: what a gateway states of a day beside what the store has of it (decision 0032).

Made when it is asked for, from the events and readings the store has: nothing is kept beside them, and a
certificate made after a backfill tells what is true then.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from openami.headend.store.commands import HeadEndStore
from openami.profile import utc_text
from openami.sip.account import MeterDay, begin_of, is_counted, ms_of
from openami.sip.canonical import read_document
from openami.sip.certificate import (
    CertificateError,
    CertificateFault,
    Link,
    certificate,
    chain_of,
    check_statement,
    verify_certificate,
    whole_statement,
)
from openami.sip.errors import SipError
from openami.sip.keyring import Roots
from openami.sip.keys import Signer
from openami.sip.statements import event_id_of, read_statement


async def compose(
    store: HeadEndStore,
    *,
    feeder_id: str,
    gateway_id: str,
    day: date,
    signer: Signer,
    roots: Roots,
    now: datetime,
) -> bytes:
    """Return a day's certificate, complete or not. Raises CertificateError where there is nothing to certify,
    and StoreError.
    """
    kept_since = await store.kept_since()
    if kept_since is not None and begin_of(day) < kept_since:
        raise CertificateError(
            CertificateFault.NO_READINGS,
            f"readings measured before {utc_text(kept_since)} were removed: {day} can be certified no longer",
        )
    parts = await stated_parts(store, feeder_id, gateway_id, day)
    chain = await _chain(store, roots, feeder_id, gateway_id)
    try:
        statement = whole_statement(parts)
        check_statement(statement, chain)
        stored = {
            stated.meter: await account_of(store, feeder_id, stated.meter, day)
            for part in statement
            for stated in part.meters
        }
        return certificate(parts, stored, chain, signer=signer, now=now)
    except SipError as error:
        raise CertificateError(
            CertificateFault.GATEWAY, f"the statement is not to be believed: {error}"
        ) from None


async def verified(
    store: HeadEndStore,
    *,
    feeder_id: str,
    gateway_id: str,
    day: date,
    signer: Signer,
    roots: Roots,
    now: datetime,
) -> bytes:
    """Return a day's certificate that whoever has the roots can verify; what nobody could is not handed out.

    Raises CertificateError and StoreError, as `compose`.
    """
    document = await compose(
        store,
        feeder_id=feeder_id,
        gateway_id=gateway_id,
        day=day,
        signer=signer,
        roots=roots,
        now=now,
    )
    verify_certificate(document, roots)
    return document


async def stated_parts(
    store: HeadEndStore, feeder_id: str, gateway_id: str, day: date
) -> Sequence[bytes]:
    """Return a statement's parts as they came. Raises CertificateError if one is not there."""
    found: list[bytes] = []
    parts = 1
    while len(found) < parts:
        part = len(found) + 1
        events = await store.events(
            feeder_id=feeder_id,
            meter_serial=gateway_id,
            event_id=event_id_of(gateway_id, day, part),
        )
        try:
            parts = read_statement(read_document(events[0].payload)).parts
        except (IndexError, SipError):
            raise CertificateError(
                CertificateFault.NO_STATEMENT,
                f"{feeder_id}/{gateway_id} has not stated {day}: part {part} is not here",
            ) from None
        found.append(events[0].payload)
    return found


async def account_of(store: HeadEndStore, feeder_id: str, meter: str, day: date) -> MeterDay:
    """Return what the store has of a meter's day. Raises StoreError."""
    account = MeterDay()
    since = begin_of(day)
    async for reading in store.readings(
        feeder_id, meter, since=since, until=since + timedelta(days=1)
    ):
        if is_counted(reading.obis, reading.quality):
            account.add(meter, reading.obis, ms_of(reading.ts), reading.value, reading.unit)
    return account


async def _chain(
    store: HeadEndStore, roots: Roots, feeder_id: str, gateway_id: str
) -> tuple[Link, ...]:
    """Return every keyring that proves itself; what does not is passed over, as it is everywhere."""
    links: tuple[Link, ...] = ()
    for stored in await store.keyrings(feeder_id, gateway_id):
        payloads = [*(link.payload for link in links), stored.document]
        try:
            links = chain_of(payloads, roots, feeder_id=feeder_id, gateway_id=gateway_id)
        except SipError:
            continue
    return links
