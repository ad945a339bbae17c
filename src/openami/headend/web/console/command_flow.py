"""Relay commands as a person meets them: what is so now, what stands in the way, and how far one has come. Pure.

Nothing is optimistic. A step is done when the ledger has it, and an unknown end is neither a failure nor a reason
to ask again (decision 0043).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from openami.headend.assets import FeederAssets
from openami.headend.audit import Link
from openami.headend.commands import (
    BUDGET_WINDOW,
    REPORT_GRACE_S,
    LedgerCommand,
    is_unresolved,
)
from openami.headend.keyrings import protected_by
from openami.headend.sessions import LedgerSession, usable_session
from openami.headend.states import MeterState
from openami.headend.store import MeterRow, Reading
from openami.headend.store.commands import StoredKeyring
from openami.profile import Quality, RegisterCatalogue
from openami.profile.command import CommandState
from openami.sip.actions import ACTIONS, RELAY_STATE_OBIS, Action, Direction

# So many of its last characters are typed to cut a house off: enough to look at the plate, few enough for a phone.
SERIAL_END_CHARS: Final = 4
# A note is a sentence for the audit log.
NOTE_CHARS_MAX: Final = 300
# In its first minute a command moves within seconds; after that somebody waits for a gateway that is away.
LOOK_SOON_S: Final = 2
LOOK_LATER_S: Final = 10
SOON: Final = timedelta(minutes=1)
# So long a page looks on its own whether telemetry has shown what became of an unknown command.
UNKNOWN_FOLLOWED: Final = timedelta(hours=1)


def _(text: str) -> str:
    """Mark a word to be translated where it is shown."""
    return text


ORDERED: Final[Mapping[str, Action]] = {
    "disconnect": Action.DISCONNECT,
    "reconnect": Action.RECONNECT,
}
"""What the relay page can ask for, by its word in the address."""

OTHER: Final = "other"
REASONS: Final[Mapping[Action, Mapping[str, str]]] = {
    Action.DISCONNECT: {
        "no credit": _("No credit"),
        "unpaid": _("Unpaid bill"),
        "customer's wish": _("The customer wishes it"),
        "safety": _("Danger: fire, flood, a line that came down"),
        "tampering": _("Tampering"),
        "work": _("Work on the line or the meter"),
        OTHER: _("Another reason (say which)"),
    },
    Action.RECONNECT: {
        "paid": _("Paid, or credit bought"),
        "work done": _("The work is done"),
        "safe again": _("It is safe again"),
        "mistake": _("It was cut off by mistake"),
        "customer's wish": _("The customer wishes it"),
        OTHER: _("Another reason (say which)"),
    },
}
"""Reasons as the audit log has them, and as they are read."""


# --- before it is asked for ----------------------------------------------------------------------


class Obstacle(StrEnum):
    """What stands in the way of a command, or should be known before it is asked for."""

    NO_KEY = "no_key"
    """This head-end has no key to command with."""
    NO_KEYRING = "no_keyring"
    """Nobody has given its gateway a keyring."""
    ALREADY_OPEN = "already_open"
    """Another one asks for the same, and has not ended."""
    PROTECTED = "protected"
    """A critical customer's: only an engineer may."""
    SECOND_PERSON = "second_person"
    """The keyring wants a second person's signature."""
    GATEWAY_SILENT = "gateway_silent"
    """Nothing is heard of its gateway: it will wait, and expire."""
    METER_SILENT = "meter_silent"
    """The gateway does not reach it."""
    ALREADY_SO = "already_so"
    """The relay was last read where it is to be."""


_STOPPING: Final = frozenset({Obstacle.NO_KEY, Obstacle.ALREADY_OPEN, Obstacle.PROTECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFacts:
    """What is known of a meter before its relay is ordered."""

    meter: MeterRow
    state: MeterState
    relay: Reading | None
    credit: tuple[tuple[str, Reading], ...]
    """What the register list calls a prepayment register, by its name there."""
    customer: str
    pole: str
    protected: bool
    """By the assets: a critical customer's."""
    keyring: int | None
    """The version of the newest keyring for its gateway; it was not verified for this page."""
    second_person: bool
    """Whether that keyring protects it."""
    session: LedgerSession | None
    """The session a command would be signed in now; None: one opens by itself."""
    open_commands: tuple[LedgerCommand, ...]
    recent: tuple[LedgerCommand, ...]

    def open_for(self, action: Action) -> LedgerCommand | None:
        """Return the command that asks for the same already."""
        return next((each for each in self.open_commands if each.action is action), None)


def relay_facts(
    meter: MeterRow,
    state: MeterState,
    latest: Sequence[Reading],
    *,
    catalogue: RegisterCatalogue,
    assets: FeederAssets,
    keyrings: Sequence[StoredKeyring],
    sessions: Sequence[LedgerSession],
    commands: Sequence[LedgerCommand],
    now: datetime,
) -> RelayFacts:
    """Gather what the relay page tells."""
    placed = assets.meter(meter.meter_serial, now)
    customer = assets.customer_of(meter.meter_serial, now)
    pole = assets.pole(None if placed is None else placed.pole_id)
    newest = max(keyrings, key=lambda each: each.version, default=None)
    return RelayFacts(
        meter=meter,
        state=state,
        relay=next((each for each in latest if str(each.obis) == RELAY_STATE_OBIS), None),
        credit=tuple(
            (entry.name, each)
            for each in latest
            if (entry := catalogue.get(each.obis)) is not None and entry.required == "prepaid"
        ),
        customer="" if customer is None else customer.name,
        pole="" if pole is None else pole.name,
        protected=placed is not None and placed.protected,
        keyring=None if newest is None else newest.version,
        second_person=newest is not None and meter.meter_serial in protected_by(newest.document),
        session=usable_session(sessions, meter_serial=meter.meter_serial, wanted=None, now=now),
        open_commands=tuple(each for each in commands if each.is_open),
        recent=tuple(commands),
    )


def obstacles(
    facts: RelayFacts, action: Action, *, can_command: bool, engineer: bool
) -> list[Obstacle]:
    """Return what stands in the way, in the order a person should know it."""
    unsafe = ACTIONS[action].direction is Direction.UNSAFE
    wanted = ACTIONS[action].relay_state
    found = {
        Obstacle.NO_KEY: not can_command,
        Obstacle.ALREADY_OPEN: unsafe and facts.open_for(action) is not None,
        Obstacle.PROTECTED: unsafe and facts.protected and not engineer,
        Obstacle.NO_KEYRING: facts.keyring is None,
        Obstacle.SECOND_PERSON: unsafe and facts.second_person,
        Obstacle.GATEWAY_SILENT: facts.state is MeterState.GATEWAY_SILENT,
        Obstacle.METER_SILENT: facts.state is MeterState.METER_SILENT,
        Obstacle.ALREADY_SO: facts.relay is not None
        and facts.relay.value == wanted
        and facts.relay.quality is Quality.GOOD,
    }
    return [obstacle for obstacle, holds in found.items() if holds]


def stops(found: Sequence[Obstacle]) -> bool:
    """Whether a command cannot be asked for at all."""
    return not _STOPPING.isdisjoint(found)


class FormFault(StrEnum):
    """What is wrong with a filled-in form, by field."""

    REASON = "reason"
    """None of the list was chosen."""
    NOTE = "note"
    """Another reason was chosen, and not said; or it is too long."""
    SERIAL_END = "serial_end"
    """The last characters are not this meter's."""


@dataclass(frozen=True, slots=True)
class RelayForm:
    """What a person filled in."""

    action: Action
    reason: str
    note: str
    serial_end: str = ""

    @property
    def told(self) -> str:
        """Return the reason as the audit log has it."""
        if self.reason == OTHER:
            return self.note
        return f"{self.reason}: {self.note}" if self.note else self.reason

    def reason_faults(self) -> frozenset[FormFault]:
        """Return what is wrong with the reason."""
        faults = set()
        if self.reason not in REASONS[self.action]:
            faults.add(FormFault.REASON)
        if len(self.note) > NOTE_CHARS_MAX or (self.reason == OTHER and not self.note):
            faults.add(FormFault.NOTE)
        return frozenset(faults)

    def faults(self, meter_serial: str) -> frozenset[FormFault]:
        """Return all that is wrong. Only to cut a house off the end of its serial number is typed."""
        faults = self.reason_faults()
        if ACTIONS[self.action].direction is Direction.UNSAFE:
            wanted = meter_serial[-SERIAL_END_CHARS:]
            if self.serial_end.strip().casefold() != wanted.casefold():
                faults |= {FormFault.SERIAL_END}
        return faults


# --- how far it has come -------------------------------------------------------------------------


class Standing(StrEnum):
    """Where a command stands, as it is said in one sentence."""

    WAITS_FOR_SESSION = "waits_for_session"
    WAITS_FOR_APPROVAL = "waits_for_approval"
    SENT = "sent"
    ACTING = "acting"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    UNKNOWN_IN_FORCE = "unknown_in_force"
    UNKNOWN_NOT_IN_FORCE = "unknown_not_in_force"


def standing(command: LedgerCommand) -> Standing:
    """Return where a command stands."""
    match command.state:
        case CommandState.ISSUED if command.sent_at is not None:
            return Standing.SENT
        case CommandState.ISSUED if command.document is not None and command.missing:
            return Standing.WAITS_FOR_APPROVAL
        case CommandState.ISSUED:
            return Standing.WAITS_FOR_SESSION
        case CommandState.ACCEPTED | CommandState.EXECUTING:
            return Standing.ACTING
        case CommandState.CONFIRMED:
            return Standing.CONFIRMED
        case CommandState.REFUSED:
            return Standing.WITHDRAWN if command.code == "WITHDRAWN" else Standing.REFUSED
        case CommandState.FAILED:
            return Standing.FAILED
        case CommandState.EXPIRED:
            return Standing.EXPIRED
        case CommandState.UNKNOWN if command.resolved_as is CommandState.CONFIRMED:
            return Standing.UNKNOWN_IN_FORCE
        case CommandState.UNKNOWN if command.resolved_as is not None:
            return Standing.UNKNOWN_NOT_IN_FORCE
        case CommandState.UNKNOWN:
            return Standing.UNKNOWN


class Mark(StrEnum):
    """What can be said of a step."""

    DONE = "done"
    NOW = "now"
    """It is being waited for."""
    AHEAD = "ahead"
    NEVER = "never"
    """The command ended before it."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Nobody knows whether it happened."""


class StepName(StrEnum):
    """The steps of every command, in their order."""

    REQUESTED = "requested"
    SIGNED = "signed"
    APPROVED = "approved"
    SENT = "sent"
    ACCEPTED = "accepted"
    ACTED = "acted"
    READ_BACK = "read_back"


@dataclass(frozen=True, slots=True)
class Step:
    """One step, and when it was done."""

    name: StepName
    mark: Mark
    at: datetime | None = None


def steps_of(command: LedgerCommand, links: Sequence[Link] = ()) -> list[Step]:
    """Return the steps of a command; ``links`` are its entries of the audit log, which know more moments."""
    steps = [
        Step(StepName.REQUESTED, Mark.DONE, command.requested_at),
        Step(StepName.SIGNED, _signed(command), command.signed_at),
    ]
    if command.missing:
        approved = _told_at(links, "command approved") if command.sent_at else None
        steps.append(Step(StepName.APPROVED, _approved(command), approved))
    steps.append(Step(StepName.SENT, _sent(command), command.sent_at))
    accepted = _accepted(command)
    accepted_at = _told_at(links, "command accepted") if accepted is Mark.DONE else None
    steps.append(Step(StepName.ACCEPTED, accepted, accepted_at))
    acted, read_back = _acted(command), _read_back(command)
    known = read_back in (Mark.DONE, Mark.FAILED)
    seen_at = command.resolved_at or command.ended_at
    steps.append(Step(StepName.ACTED, acted, command.ended_at if acted is Mark.DONE else None))
    steps.append(Step(StepName.READ_BACK, read_back, seen_at if known else None))
    return steps


def _signed(command: LedgerCommand) -> Mark:
    if command.document is not None:
        return Mark.DONE
    return Mark.NOW if command.is_open else Mark.NEVER


def _approved(command: LedgerCommand) -> Mark:
    if command.sent_at is not None:
        return Mark.DONE
    if not command.is_open:
        return Mark.NEVER
    return Mark.AHEAD if command.document is None else Mark.NOW


def _sent(command: LedgerCommand) -> Mark:
    if command.sent_at is not None:
        return Mark.DONE
    if not command.is_open:
        return Mark.NEVER
    waits = command.document is None or bool(command.missing)
    return Mark.AHEAD if waits else Mark.NOW


def _accepted(command: LedgerCommand) -> Mark:
    if command.sent_at is None:
        return Mark.AHEAD if command.is_open else Mark.NEVER
    match command.state:
        case CommandState.ISSUED:
            return Mark.NOW
        case CommandState.REFUSED:
            return Mark.FAILED
        case CommandState.EXPIRED:
            return Mark.NEVER
        case CommandState.UNKNOWN if command.report is None:
            return Mark.UNKNOWN
        case _:
            return Mark.DONE


def _acted(command: LedgerCommand) -> Mark:
    match command.state:
        case CommandState.CONFIRMED:
            return Mark.DONE
        case CommandState.ACCEPTED | CommandState.EXECUTING:
            return Mark.NOW
        case CommandState.ISSUED:
            return Mark.AHEAD
        case CommandState.FAILED:
            return Mark.FAILED
        case CommandState.UNKNOWN:
            return Mark.DONE if command.resolved_as is CommandState.CONFIRMED else Mark.UNKNOWN
        case CommandState.REFUSED | CommandState.EXPIRED:
            return Mark.NEVER


def _read_back(command: LedgerCommand) -> Mark:
    if command.is_open:
        return Mark.AHEAD
    match command.resolved_as or command.state:
        case CommandState.CONFIRMED:
            return Mark.DONE
        case CommandState.FAILED:
            return Mark.FAILED
        case CommandState.UNKNOWN:
            return Mark.UNKNOWN
        case _:
            return Mark.NEVER


def _told_at(links: Sequence[Link], what: str) -> datetime | None:
    """Return when the log last told a thing."""
    told = [link.at for link in links if link.entry.what == what]
    return datetime.fromisoformat(told[-1]) if told else None


def can_withdraw(command: LedgerCommand) -> bool:
    """Whether it can still be called back: until it may be out."""
    return command.is_open and command.sent_at is None


def look_again_s(command: LedgerCommand, now: datetime) -> int | None:
    """Return in how many seconds a page that follows it should look again; None: it need not.

    Bounded: a command lives an hour at most, and an unknown one is followed for UNKNOWN_FOLLOWED.
    """
    if command.is_open:
        if now > command.not_after + timedelta(seconds=2 * REPORT_GRACE_S):
            return None
        return LOOK_SOON_S if now - command.requested_at < SOON else LOOK_LATER_S
    if is_unresolved(command) and command.ended_at is not None:
        return LOOK_LATER_S if now - command.ended_at < UNKNOWN_FOLLOWED else None
    return None


# --- the receipt ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the gateway measured after it acted, as its signed report tells."""

    obis: str
    name: str
    value: str
    unit: str
    quality: str


def read_back_of(report: bytes | None, catalogue: RegisterCatalogue) -> list[ReadBack]:
    """Return the registers of a report that is in the ledger, and so was verified; none of none."""
    if report is None:
        return []
    members: Any = json.loads(report)
    names = {entry.obis: entry.name for entry in catalogue}
    return [
        ReadBack(
            str(each.get("obis", "")),
            names.get(str(each.get("obis", "")), ""),
            str(each.get("value", "")),
            str(each.get("unit", "")),
            str(each.get("quality", "")),
        )
        for each in members.get("registers", ())
    ]


def proves(command: LedgerCommand, reading: Reading) -> bool:
    """Whether a reading of the relay, measured after a command was sent, shows it where it was ordered to be."""
    return (
        command.sent_at is not None
        and reading.ts > command.sent_at
        and reading.quality is Quality.GOOD
        and reading.value == ACTIONS[command.action].relay_state
    )


# --- the list ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CommandCounts:
    """How many commands of a list stand where."""

    open: int
    waiting_for_approval: int
    unknown: int
    """Ended unknown, and nothing has shown since what became of them."""
    disconnects_lately: int
    """Asked for within the hour that the budget for disconnections looks at."""


def count_commands(commands: Sequence[LedgerCommand], now: datetime) -> CommandCounts:
    """Count commands by what a person would do about them."""
    return CommandCounts(
        sum(each.is_open for each in commands),
        sum(standing(each) is Standing.WAITS_FOR_APPROVAL for each in commands),
        sum(is_unresolved(each) for each in commands),
        sum(
            each.action is Action.DISCONNECT and now - each.requested_at < BUDGET_WINDOW
            for each in commands
        ),
    )
