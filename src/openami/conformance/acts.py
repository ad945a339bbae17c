"""Acts: what has to happen so that a requirement can be seen to be kept, and who makes it happen (pure).

Most of the profile judges itself from ordinary traffic. The rest shows only when something goes wrong: a link is
cut, a meter falls silent, a command is forged. Each such thing is one row of `ACTS`. An act is only begun while a
requirement it serves has not been exercised, so a gateway that lost its link by itself is not cut off again.

An act's life is a table. What a person does is believed when traffic shows it, or when the person says so: a
gateway that goes on as if nothing had happened is just what some acts are for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from openami.conformance.judgement import Kind
from openami.conformance.observation import Act
from openami.conformance.scene import MeterSeen, Scene
from openami.profile import MeterSerial
from openami.profile.life import Life, Move, Party

# A person reads, walks to the bench and pulls a plug; who has gone for lunch finds it skipped.
HANDS_S_MAX: Final = 600.0
# A gateway that is up reconnects within its longest pause; five minutes is what field gateways wait.
RECONNECT_S_MAX: Final = 330.0
# It boots, finds its network and its meters.
BOOT_S_MAX: Final = 600.0
# Ten orders, and after each of them a reading of the relay, which may be five minutes away.
COMMANDS_S_MAX: Final = 3_600.0
# Three intervals of fifteen minutes: what the rules about silence and lost links look at.
HOLD_S_MAX: Final = 2_700.0


class ActState(Enum):
    """Where an act stands."""

    WAITING = "waiting"
    ASKED = "asked for"
    UNDERWAY = "under way"
    DONE = "done"
    NOT_NEEDED = "not needed"
    SKIPPED = "skipped"
    FAILED = "could not be done"
    TIMED_OUT = "not seen in time"


class ActEvent(Enum):
    """What moves it on."""

    ASK = "ask"
    BEGIN = "begin"
    CONFIRM = "confirm"
    SHOWS = "shows"
    SEEN = "seen"
    EXERCISED = "exercised"
    SKIP = "skip"
    IMPOSSIBLE = "impossible"
    TIME_PASSED = "time passed"


_ENDS: Final = (
    ActState.DONE,
    ActState.NOT_NEEDED,
    ActState.SKIPPED,
    ActState.FAILED,
    ActState.TIMED_OUT,
)

ACT_LIFE: Final[Life[ActState, ActEvent]] = Life(
    start=ActState.WAITING,
    moves={
        ActState.WAITING: {
            ActEvent.ASK: Move(ActState.ASKED, Party.KIT),
            ActEvent.BEGIN: Move(ActState.UNDERWAY, Party.KIT),
            ActEvent.EXERCISED: Move(ActState.NOT_NEEDED, Party.KIT),
            ActEvent.SKIP: Move(ActState.SKIPPED, Party.VENDOR),
        },
        ActState.ASKED: {
            ActEvent.CONFIRM: Move(ActState.UNDERWAY, Party.VENDOR),
            ActEvent.SHOWS: Move(ActState.UNDERWAY, Party.GATEWAY),
            ActEvent.SKIP: Move(ActState.SKIPPED, Party.VENDOR),
            ActEvent.TIME_PASSED: Move(ActState.TIMED_OUT, Party.TIME),
        },
        ActState.UNDERWAY: {
            ActEvent.SEEN: Move(ActState.DONE, Party.KIT),
            ActEvent.IMPOSSIBLE: Move(ActState.FAILED, Party.KIT),
            ActEvent.SKIP: Move(ActState.SKIPPED, Party.VENDOR),
            ActEvent.TIME_PASSED: Move(ActState.TIMED_OUT, Party.TIME),
        },
        **{end: {} for end in _ENDS},
    },
)

# Not every message of a meter tells of its relay: some registers are read less often than others.
_MESSAGES_BEFORE_RELAY = 12
# Two rounds of the two meters the kit plays.
_READINGS_BEFORE_ORDER = 4

Ready = Callable[[Scene], bool]
Shows = Callable[[Scene, datetime, MeterSerial | None], bool]
"""What is known, since when, and which meter in; whether the act can be seen to have happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRow:
    """One act of the table.

    ``serves`` are the requirements it exercises. Without ``asks`` the kit does it; with it, a control hook that
    knows the verb ``hook`` is asked, else a person, in the words of ``asks``. ``undo_hook`` and ``undo_asks``
    bring back what was taken away. ``ready`` says when it can be begun, ``needs`` the same to a person; ``shows``
    how it is seen; ``timeout_s`` how long that may take.
    """

    act: Act
    kind: Kind
    title: str
    serves: tuple[str, ...]
    timeout_s: float
    ready: Ready
    needs: str
    shows: Shows
    hook: str | None = None
    asks: str | None = None
    undo_hook: str | None = None
    undo_asks: str | None = None
    of_meter: bool = False


# --- when it can be begun, and how it is seen ----------------------------------------------------


def _tells(scene: Scene) -> bool:
    return bool(scene.connections) and bool(scene.meters)


def _counts(scene: Scene) -> bool:
    return _tells(scene) and scene.counts


def _tells_regularly(scene: Scene) -> bool:
    """How often a meter is told of is known, so that an outage can be made long enough."""
    return bool(scene.connections) and any(m.interval_s for m in scene.meters.values())


def _takes_commands(scene: Scene) -> bool:
    return _tells(scene) and scene.hears_commands and _has_told_of_relays(scene)


def _takes_sessions(scene: Scene) -> bool:
    return _tells(scene) and scene.hears_sessions and _has_told_of_relays(scene)


def _has_told_of_relays(scene: Scene) -> bool:
    """Where its relays are it has told, or has had time to, if it ever does."""
    told = max((m.times_told for m in scene.meters.values()), default=0)
    return relay_meter(scene) is not None or told >= _MESSAGES_BEFORE_RELAY


def _hears_readings(scene: Scene) -> bool:
    """The head-end has had readings, so that it knows the meter it is to order."""
    return scene.hears_readings and scene.readings_heard >= _READINGS_BEFORE_ORDER


def _is_back(scene: Scene, since: datetime, _: MeterSerial | None) -> bool:
    back = scene.last_connected_at is not None and scene.last_connected_at > since
    told = scene.last_published_at is not None and scene.last_published_at > since
    return back and told


def _is_resent(scene: Scene, _since: datetime, _: MeterSerial | None) -> bool:
    return scene.resent > 0


def _is_silent(scene: Scene, since: datetime, serial: MeterSerial | None) -> bool:
    meter = scene.meters.get(serial) if serial is not None else None
    return meter is not None and meter.lost_at is not None and meter.lost_at > since


def _is_commanded(scene: Scene, _since: datetime, _: MeterSerial | None) -> bool:
    return scene.commands > 0


def _is_told_by_kit(_scene: Scene, _since: datetime, _: MeterSerial | None) -> bool:
    """A series of messages is over when the last of them was answered; the kit knows when."""
    return False


_NEEDS: Final[Mapping[Ready, str]] = {
    _tells: "readings",
    _counts: "readings with seq",
    _tells_regularly: "a second reading of a meter",
    _takes_commands: "a subscription to commands, after a while of readings",
    _takes_sessions: "a subscription to sessions, after a while of readings",
    _hears_readings: "a subscription to readings",
}

# --- the table -----------------------------------------------------------------------------------

# In this order: what the kit does by itself, then what takes somebody's hands; moving relays before taking
# meters away.
ACTS: Final[Sequence[ActRow]] = (
    ActRow(
        act=Act.ACKNOWLEDGEMENT_WITHHELD,
        kind="gateway",
        title="An acknowledgement is kept back and the link is cut: the message has to come again.",
        serves=("OA-DEL-001",),
        timeout_s=RECONNECT_S_MAX,
        ready=_tells,
        needs=_NEEDS[_tells],
        shows=_is_resent,
    ),
    ActRow(
        act=Act.NETWORK_LOST,
        kind="gateway",
        title="The network is down for three intervals: what is measured meanwhile has to come afterwards.",
        serves=("OA-DEL-003",),
        timeout_s=HOLD_S_MAX + RECONNECT_S_MAX,
        ready=_tells_regularly,
        needs=_NEEDS[_tells_regularly],
        shows=_is_back,
    ),
    ActRow(
        act=Act.COMMAND_WITHOUT_SESSION,
        kind="gateway",
        title="Commands without a session are sent: the relay must not move.",
        serves=("OA-SES-002",),
        timeout_s=COMMANDS_S_MAX,
        ready=_takes_commands,
        needs=_NEEDS[_takes_commands],
        shows=_is_told_by_kit,
        of_meter=True,
    ),
    ActRow(
        act=Act.SESSION_OFFERED,
        kind="gateway",
        title="A session is offered; an honest command moves the relay, forged and repeated ones do not.",
        serves=(
            "OA-SES-003",
            "OA-SES-004",
            "OA-CMD-001",
            "OA-CMD-002",
            "OA-CMD-003",
            "OA-CMD-004",
            "OA-CMD-005",
        ),
        timeout_s=COMMANDS_S_MAX,
        ready=_takes_sessions,
        needs=_NEEDS[_takes_sessions],
        shows=_is_told_by_kit,
        of_meter=True,
    ),
    ActRow(
        act=Act.METER_UNPLUGGED,
        kind="gateway",
        title="A meter stops answering: its gateway says so, and invents nothing.",
        serves=("OA-REG-012", "OA-SIL-001"),
        timeout_s=HANDS_S_MAX + HOLD_S_MAX,
        ready=_tells_regularly,
        needs=_NEEDS[_tells_regularly],
        shows=_is_silent,
        hook="unplug",
        asks="Unplug the data line of meter {meter}, and leave it unplugged.",
        undo_hook="plug",
        undo_asks="Plug meter {meter} in again.",
        of_meter=True,
    ),
    ActRow(
        act=Act.GATEWAY_RESTARTED,
        kind="gateway",
        title="The gateway starts anew: its numbers go on where they were.",
        serves=("OA-SEQ-001",),
        timeout_s=HANDS_S_MAX + BOOT_S_MAX,
        ready=_counts,
        needs=_NEEDS[_counts],
        shows=_is_back,
        hook="reboot",
        asks="Switch the gateway off and on again.",
    ),
    ActRow(
        act=Act.COMMAND_GIVEN,
        kind="headend",
        title="The head-end orders a relay: a session first, then one command.",
        serves=("OA-QOS-003", "OA-SES-002", "OA-SES-003", "OA-CMD-007", "OA-CMD-008"),
        timeout_s=HANDS_S_MAX,
        ready=_hears_readings,
        needs=_NEEDS[_hears_readings],
        shows=_is_commanded,
        hook="disconnect",
        asks="Disconnect meter {meter} at the head-end.",
        undo_hook="reconnect",
        undo_asks="Reconnect meter {meter} at the head-end.",
        of_meter=True,
    ),
)


def relay_meter(scene: Scene) -> MeterSeen | None:
    """Return a meter whose relay's position is known: the one that was told of last."""
    known = [m for m in scene.meters.values() if m.relay is not None]
    return max(known, key=lambda m: m.told_at, default=None)


def next_act(
    rows: Sequence[ActRow],
    states: Mapping[Act, ActState],
    unexercised: Collection[str],
    scene: Scene,
) -> ActRow | None:
    """Return the act to begin now; None: nothing waits, or nothing of it can be begun yet."""
    for row in rows:
        if (
            states[row.act] is ActState.WAITING
            and row.ready(scene)
            and _is_needed(row, unexercised)
        ):
            return row
    return None


def spared(
    rows: Sequence[ActRow], states: Mapping[Act, ActState], unexercised: Collection[str]
) -> Sequence[ActRow]:
    """Return the acts that wait and need not happen any more: all they serve has been exercised."""
    return [
        row
        for row in rows
        if states[row.act] is ActState.WAITING and not _is_needed(row, unexercised)
    ]


def _is_needed(row: ActRow, unexercised: Collection[str]) -> bool:
    return any(requirement in unexercised for requirement in row.serves)
