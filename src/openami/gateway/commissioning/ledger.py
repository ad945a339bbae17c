"""What commissioning has come to, in the gateway's database.

Every function takes the connection: the gateway calls them on the thread that owns its own, a command on one that
it opens beside the running gateway. Each write is one transaction.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from openami.gateway.commissioning.load_test import LoadBegun, PowerAt, swapped
from openami.gateway.commissioning.permit import Permit, SignInRefusal, sign_in
from openami.sip.commissioning import (
    METERS_MAX,
    RESULTS_MAX,
    Bench,
    Deviation,
    Limits,
    Tick,
)
from openami.sqlite_transaction import transaction

_PERMIT: Final = (
    "pin_salt, pin_sha256, pin_issued_ms, pin_tries, secret_sha256, signed_in_ms, signed_in_by"
)


class LedgerFull(Exception):
    """More meters or deviations than a feeder can have: somebody is filling the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything that is known, at one moment."""

    hour_began_at: datetime | None
    feeder_meter: str | None
    limits: Limits
    bench: Bench | None
    permit: Permit | None
    ticks: dict[str, Tick]
    loads_begun: dict[str, LoadBegun]
    deviations: tuple[Deviation, ...]

    @property
    def swapped(self) -> tuple[tuple[str, str], ...]:
        """Pairs of meters that are wired to each other's houses."""
        return tuple(swapped(self.ticks.values()))


def standing(connection: sqlite3.Connection) -> Standing:
    """Return everything that is known."""
    hour_ms, feeder_meter, limits, bench = connection.execute(
        "SELECT hour_began_ms, feeder_meter, limits, bench FROM commissioning"
    ).fetchone()
    walk = connection.execute(
        "SELECT meter, load_begun, tick FROM commissioning_walk ORDER BY meter"
    ).fetchall()
    deviations = connection.execute(
        "SELECT deviation FROM commissioning_deviation ORDER BY rule, about"
    ).fetchall()
    return Standing(
        hour_began_at=_moment(hour_ms),
        feeder_meter=feeder_meter,
        limits=msgspec.json.decode(limits, type=Limits),
        bench=None if bench is None else msgspec.json.decode(bench, type=Bench),
        permit=_permit(connection),
        ticks={meter: msgspec.json.decode(tick, type=Tick) for meter, _, tick in walk if tick},
        loads_begun={
            meter: msgspec.json.decode(begun, type=LoadBegun) for meter, begun, _ in walk if begun
        },
        deviations=tuple(msgspec.json.decode(each, type=Deviation) for (each,) in deviations),
    )


# --- beginning -----------------------------------------------------------------------------------


def begin(
    connection: sqlite3.Connection,
    permit: Permit,
    *,
    feeder_meter: str | None,
    limits: Limits,
) -> None:
    """Note a new PIN, which ends the one before and its sign-in, and what is asked of the first hour."""
    with transaction(connection):
        connection.execute(
            "UPDATE commissioning SET feeder_meter = ?, limits = ?",
            (feeder_meter, msgspec.json.encode(limits).decode()),
        )
        _write_permit(connection, permit)


def end(connection: sqlite3.Connection) -> None:
    """End the PIN and the sign-in; what was ticked stays."""
    with transaction(connection):
        connection.execute(
            "UPDATE commissioning SET pin_salt = NULL, pin_sha256 = NULL, pin_issued_ms = NULL,"
            " pin_tries = 0, secret_sha256 = NULL, signed_in_ms = NULL, signed_in_by = ''"
        )


def forget(connection: sqlite3.Connection) -> None:
    """Begin from nothing: another feeder is built with this gateway."""
    with transaction(connection):
        connection.execute("DELETE FROM commissioning_walk")
        connection.execute("DELETE FROM commissioning_deviation")
        connection.execute("UPDATE commissioning SET hour_began_ms = NULL, bench = NULL")


def begin_hour(connection: sqlite3.Connection, now: datetime) -> None:
    """Begin the first hour now, in place of any before."""
    with transaction(connection):
        connection.execute("UPDATE commissioning SET hour_began_ms = ?", (_ms(now),))


def note_bench(connection: sqlite3.Connection, bench: Bench) -> None:
    """Keep a bench scan, in place of the one before."""
    with transaction(connection):
        connection.execute(
            "UPDATE commissioning SET bench = ?", (msgspec.json.encode(bench).decode(),)
        )


# --- signing in ----------------------------------------------------------------------------------


def try_pin(
    connection: sqlite3.Connection, pin: str, *, secret: str, by: str, now: datetime
) -> SignInRefusal | None:
    """Try a PIN and count the try, in one transaction; None: ``secret`` is signed in as ``by``."""
    with transaction(connection):
        after, refusal = sign_in(_permit(connection), pin, secret=secret, by=by, now=now)
        if after is not None:
            _write_permit(connection, after)
    return refusal


def _permit(connection: sqlite3.Connection) -> Permit | None:
    salt, pin, issued_ms, tries, secret, signed_in_ms, by = connection.execute(
        f"SELECT {_PERMIT} FROM commissioning"  # noqa: S608 – our own words
    ).fetchone()
    issued_at = _moment(issued_ms)
    if pin is None or issued_at is None:
        return None
    return Permit(
        salt=salt,
        pin_sha256=pin,
        issued_at=issued_at,
        tries=tries,
        secret_sha256=secret,
        signed_in_at=_moment(signed_in_ms),
        by=by,
    )


def _write_permit(connection: sqlite3.Connection, permit: Permit) -> None:
    signed_in = permit.signed_in_at
    connection.execute(
        "UPDATE commissioning SET pin_salt = ?, pin_sha256 = ?, pin_issued_ms = ?, pin_tries = ?,"
        " secret_sha256 = ?, signed_in_ms = ?, signed_in_by = ?",
        (
            permit.salt,
            permit.pin_sha256,
            _ms(permit.issued_at),
            permit.tries,
            permit.secret_sha256,
            None if signed_in is None else _ms(signed_in),
            permit.by,
        ),
    )


# --- the walk ------------------------------------------------------------------------------------


def hear_others(
    connection: sqlite3.Connection, powers: Mapping[str, PowerAt], within_s: float
) -> Standing:
    """Keep what other meters told since a load is on, and return everything that is known.

    At once, so that a test begun anew in between is not put back.
    """
    known = standing(connection)
    changed = {
        meter: after
        for meter, begun in known.loads_begun.items()
        if (after := begun.heard(meter, powers, within_s)) is not begun
    }
    for meter, begun in changed.items():
        note_load(connection, meter, begun)
    return replace(known, loads_begun={**known.loads_begun, **changed})


def note_load(connection: sqlite3.Connection, meter: str, begun: LoadBegun | None) -> None:
    """Keep how a load test stands. Raises LedgerFull."""
    load = None if begun is None else msgspec.json.encode(begun)
    tick = connection.execute("SELECT tick FROM commissioning_walk WHERE meter = ?", (meter,))
    before = tick.fetchone()
    _put(
        connection, meter, load, None if before is None or before[0] is None else before[0].encode()
    )


def note_tick(connection: sqlite3.Connection, tick: Tick) -> None:
    """Keep how a meter was left, in place of what was said before; its load test is over. Raises LedgerFull."""
    _put(connection, tick.meter, None, msgspec.json.encode(tick))


def note_deviation(connection: sqlite3.Connection, deviation: Deviation) -> None:
    """Keep what somebody answers for. Raises LedgerFull."""
    with transaction(connection):
        (count,) = connection.execute("SELECT count(*) FROM commissioning_deviation").fetchone()
        if count >= RESULTS_MAX:
            raise LedgerFull(f"{count} deviations are noted already")
        connection.execute(
            "INSERT INTO commissioning_deviation (rule, about, deviation) VALUES (?, ?, ?)"
            " ON CONFLICT (rule, about) DO UPDATE SET deviation = excluded.deviation",
            (deviation.rule, deviation.about, msgspec.json.encode(deviation).decode()),
        )


def withdraw_deviation(connection: sqlite3.Connection, rule: str, about: str) -> bool:
    """Take a deviation back; return whether there was one."""
    with transaction(connection):
        return bool(
            connection.execute(
                "DELETE FROM commissioning_deviation WHERE rule = ? AND about = ?", (rule, about)
            ).rowcount
        )


def _put(
    connection: sqlite3.Connection, meter: str, load_begun: bytes | None, tick: bytes | None
) -> None:
    with transaction(connection):
        (count,) = connection.execute("SELECT count(*) FROM commissioning_walk").fetchone()
        known = connection.execute("SELECT 1 FROM commissioning_walk WHERE meter = ?", (meter,))
        if count >= METERS_MAX and known.fetchone() is None:
            raise LedgerFull(f"{count} meters are on the list already")
        connection.execute(
            "INSERT OR REPLACE INTO commissioning_walk (meter, load_begun, tick) VALUES (?, ?, ?)",
            [meter, *(None if each is None else each.decode() for each in (load_begun, tick))],
        )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
