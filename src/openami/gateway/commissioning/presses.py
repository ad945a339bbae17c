"""What each press of the walk does, by whoever is signed in.

All that is behind a press is the ledger, and a function that reads a meter; there is no relay.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import structlog

from openami.gateway.commissioning import ledger
from openami.gateway.commissioning.load_test import (
    BEFORE_AGE_S_MAX,
    LOAD_W_MAX,
    LOAD_W_MIN,
    LoadBegun,
    PowerAt,
    power_w,
)
from openami.gateway.commissioning.view import View
from openami.gateway.commissioning.walk import NotTicked, ticked
from openami.gateway.driver import DriverError, RawReading
from openami.profile import MeterSerial, Obis
from openami.sip.commissioning import (
    NOTE_CHARS_MAX,
    Deviation,
    LoadVerdict,
    Outcome,
    open_points,
)

_log = structlog.get_logger(__name__)

Ask = Callable[[MeterSerial], Awaitable[Sequence[RawReading]]]
"""Reads a meter now: what it has of power, energy, voltage and serial number. Raises DriverError."""

Form = Mapping[str, str]
Act = Callable[[Form, str], Awaitable["Pressed"]]
"""A form and who sent it → what comes of it. Raises DatabaseError, LedgerFull and OSError."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """Which page is shown next, and what it says on top."""

    page: str
    said: str = ""


class Presses:
    """The acts, by the name under which a form asks for them."""

    def __init__(self, view: View, ask: Ask) -> None:
        self._view = view
        self._ask = ask

    @property
    def by_name(self) -> Mapping[str, Act]:
        """Every act there is."""
        return {
            "walk-sign-out": self.sign_out,
            "walk-ask": self.ask_now,
            "walk-load-before": self.note_before,
            "walk-load-on": self.note_on,
            "walk-tick": self.tick,
            "walk-hour-begin": self.begin_hour,
            "walk-deviation": self.answer_for,
        }

    async def sign_out(self, form: Form, by: str) -> Pressed:
        """End the sign-in; its PIN is used, so another one is needed."""
        await self._view.database.run(ledger.end)
        _log.info("walk signed out", by=by)
        return Pressed("walk")

    async def ask_now(self, form: Form, by: str) -> Pressed:
        """Read a meter, and say what it told."""
        serial = form.get("meter", "")
        values = await self._read(serial)
        if values is None:
            return Pressed("walk")
        if isinstance(values, DriverError):
            return _at(serial, f"It does not answer now: {values}")
        told = ", ".join(sorted(_printed(reading) for reading in values.values()))
        return _at(serial, f"It answers: {told or 'nothing of interest'}.")

    async def note_before(self, form: Form, by: str) -> Pressed:
        """Note every meter's power before a load is switched on: this one read now, the others as last polled."""
        serial, load_w = form.get("meter", ""), _load_w(form.get("load_w", ""))
        if load_w is None:
            return _at(serial, f"The load is a number of watts, from {LOAD_W_MIN} to {LOAD_W_MAX}.")
        values = await self._read(serial)
        if values is None:
            return Pressed("walk")
        if isinstance(values, DriverError):
            return _at(serial, f"It does not answer now: {values}")
        before, now = await self._view.powers(), self._view.clock.now()
        before.pop(serial, None)
        if (power := _power_at(values, now)) is not None:
            before[serial] = power
        begun = LoadBegun(load_w=load_w, at=now, before=before)
        await self._view.database.run(lambda c: ledger.note_load(c, serial, begun))
        return _at(serial)

    async def note_on(self, form: Form, by: str) -> Pressed:
        """Read a meter now that the load is said to be on."""
        serial = form.get("meter", "")
        begun = (await self._view.standing()).loads_begun.get(serial)
        if begun is None:
            return _at(serial) if serial in self._view.identities else Pressed("walk")
        # Before it is read: the others count from the moment on that the person said so.
        now = self._view.clock.now()
        if (now - begun.at).total_seconds() > BEFORE_AGE_S_MAX:
            await self._view.database.run(lambda c: ledger.note_load(c, serial, None))
            return _at(serial, "Too long ago: switch the load off and begin again.")
        values = await self._read(serial)
        if values is None:
            return Pressed("walk")
        on = begun.switched_on(serial, _power_at(values, now), now)
        await self._view.database.run(lambda c: ledger.note_load(c, serial, on))
        if on.verdict(serial) is not LoadVerdict.ROSE:
            _log.warning("load not seen", meter=serial, verdict=on.verdict(serial).value, by=by)
        return _at(serial)

    async def tick(self, form: Form, by: str) -> Pressed:
        """Tick a meter, or say why not."""
        serial, outcome = form.get("meter", ""), form.get("outcome", "")
        _, meters = await self._view.meters()
        meter = next((each for each in meters if each.serial == serial), None)
        if meter is None or outcome not in list(Outcome):
            return Pressed("walk")
        tick = ticked(
            meter,
            outcome=Outcome(outcome),
            nameplate=form.get("nameplate") == "yes",
            note=form.get("note", ""),
            by=by,
            now=self._view.clock.now(),
        )
        if isinstance(tick, NotTicked):
            return _at(serial, tick.words)
        await self._view.database.run(lambda c: ledger.note_tick(c, tick))
        _log.info("meter ticked", meter=serial, outcome=outcome, by=by)
        return Pressed("walk", f"{serial}: noted.")

    async def begin_hour(self, form: Form, by: str) -> Pressed:
        """Begin the first hour, in place of any before."""
        now = self._view.clock.now().replace(microsecond=0)
        await self._view.database.run(lambda c: ledger.begin_hour(c, now))
        _log.info("first hour begins", by=by)
        return Pressed("walk-hour")

    async def answer_for(self, form: Form, by: str) -> Pressed:
        """Keep a deviation, of something that is open."""
        rule, about = form.get("rule", ""), form.get("about", "")
        reason = " ".join(form.get("reason", "").split())[:NOTE_CHARS_MAX]
        content = await self._view.content(await self._view.standing(), by)
        known = {(point.rule, point.about) for point in open_points(content)}
        if not reason or (rule, about) not in known:
            return Pressed("walk-hour", "Say the reason; and it has to be something that is open.")
        now = self._view.clock.now().replace(microsecond=0)
        deviation = Deviation(rule=rule, about=about, reason=reason, by=by, at=now)
        await self._view.database.run(lambda c: ledger.note_deviation(c, deviation))
        _log.warning("deviation accepted", rule=rule, about=about, by=by)
        return Pressed("walk-hour")

    async def _read(self, serial: str) -> Mapping[Obis, RawReading] | DriverError | None:
        """Read a meter now; None: there is no such meter."""
        if serial not in self._view.identities:
            return None
        try:
            return {each.obis: each for each in await self._ask(MeterSerial(serial))}
        except DriverError as error:
            return error


def _at(serial: str, said: str = "") -> Pressed:
    return Pressed(f"walk-meter?meter={quote(serial)}", said)


def _printed(reading: RawReading) -> str:
    unit = "" if reading.unit == "enum" else f" {reading.unit}"
    return f"{reading.obis} {reading.value}{unit}"


def _load_w(text: str) -> int | None:
    digits_max = len(str(LOAD_W_MAX))
    if not text.isdecimal() or len(text) > digits_max:
        return None
    return int(text) if LOAD_W_MIN <= int(text) <= LOAD_W_MAX else None


def _power_at(values: Mapping[Obis, RawReading] | DriverError, now: datetime) -> PowerAt | None:
    if isinstance(values, DriverError):
        return None
    watts = power_w({obis: reading.value for obis, reading in values.items()})
    return None if watts is None else PowerAt(watts, now)
