"""What goes wrong in a village, as data: a kind, when, for how long, to whom (decision 0035).

A scenario's TOML lists them one by one; `dice_faults` throws them for a seed, so that ten thousand
village-days meet every kind in every order. Moments are hours since the world began, the unit of a scenario's
story. Gateways and meters are numbered from 0; a number beyond the last one wraps around, so that a story can
be told in a larger village.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

# A month of everything at once is 5,000 faults; more in one file is a mistake.
FAULTS_MAX: Final = 50_000

Hours = Annotated[float, msgspec.Meta(ge=0, le=24 * 366)]


class _Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at_h: Hours
    """When it begins."""


class _Lasting(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    for_h: Hours
    """How long it lasts."""


class UplinkDown(_Lasting, frozen=True, kw_only=True, tag="uplink_down"):
    """The gateway's way to the broker is gone: the mast has no power, the SIM no credit."""

    gateway: int = 0


class RadioLoss(_Lasting, frozen=True, kw_only=True, tag="radio_loss"):
    """A bad link: slow, and it breaks before a message has arrived, or after, or with its acknowledgement."""

    gateway: int = 0
    latency_s: float = 0.7
    breaks: float = 0.02
    """Share of messages at which the connection breaks."""
    duplicates: float = 0.02
    reorders: bool = True


class BrokerRestart(_Lasting, frozen=True, kw_only=True, tag="broker_restart"):
    """The broker is stopped in order and started again; it keeps its sessions."""


class BrokerCrash(_Fault, frozen=True, kw_only=True, tag="broker_crash"):
    """The broker is killed: what it queued last is lost though acknowledged, what was taken last comes again."""

    lost_tail_s: float = 60.0
    headend_away: bool = False
    """Whether nobody fetched what was queued: then it is readings of which every PUBACK was seen that are lost."""


class PowerCut(_Lasting, frozen=True, kw_only=True, tag="power_cut"):
    """The gateway's power fails; unsynced writes are lost, torn, kept, in any order."""

    gateway: int = 0
    wall_after: str = "kept"
    """What the clock says then: ``kept`` (battery), ``1970``, ``stopped`` (where it was), or ``ahead`` (2099)."""
    drift_ppm: float = 20.0
    no_time_h: Hours = 0.0
    """How long after the start no time source is heard."""


class PowerCutAtWrite(_Fault, frozen=True, kw_only=True, tag="power_cut_at_write"):
    """The power fails at exactly this write from now."""

    gateway: int = 0
    write: int = 1


class PowerCutAtOrder(_Fault, frozen=True, kw_only=True, tag="power_cut_at_order"):
    """The power fails when a contactor of the gateway has just been ordered, at this write after it.

    Its PUBACK was lost with the power: the order is delivered again.
    """

    gateway: int = 0
    write: int = 1


class GatewayKilled(_Fault, frozen=True, kw_only=True, tag="gateway_killed"):
    """The gateway's process dies (kill -9) and is started again by its supervisor."""

    gateway: int = 0


class HeadendKilled(_Lasting, frozen=True, kw_only=True, tag="headend_killed"):
    """The head-end's process dies, and is away for so long."""


class HeadendPowerCut(_Lasting, frozen=True, kw_only=True, tag="headend_power_cut"):
    """The head-end's machine loses its power, unsynced writes and all."""


class DatabaseDown(_Lasting, frozen=True, kw_only=True, tag="database_down"):
    """Nothing can be written where the head-end's store is."""


class DiskFull(_Lasting, frozen=True, kw_only=True, tag="disk_full"):
    """Somebody has filled the gateway's disk."""

    gateway: int = 0


class DiskSlow(_Lasting, frozen=True, kw_only=True, tag="disk_slow"):
    """A worn card: every sync takes this long."""

    gateway: int = 0
    sync_s: float = 2.0


class ClockJump(_Fault, frozen=True, kw_only=True, tag="clock_jump"):
    """Somebody sets the gateway's clock by hand, and a time source corrects it within the hour."""

    gateway: int = 0
    by_s: float = -7200.0


class ClockLost(_Lasting, frozen=True, kw_only=True, tag="clock_lost"):
    """The gateway hears no time source; its crystal drifts."""

    gateway: int = 0
    drift_ppm: float = 50.0


class MeterDead(_Lasting, frozen=True, kw_only=True, tag="meter_dead"):
    """A meter does not answer."""

    gateway: int = 0
    meter: int = 0


class MeterLate(_Lasting, frozen=True, kw_only=True, tag="meter_late"):
    """A meter answers after this long, which may be too late."""

    gateway: int = 0
    meter: int = 0
    delay_s: float = 1.5


class MeterStuck(_Lasting, frozen=True, kw_only=True, tag="meter_stuck"):
    """A contactor that does not move, or (``answer_lost``) moves without saying so."""

    gateway: int = 0
    meter: int = 0
    answer_lost: bool = False


class LineCut(_Lasting, frozen=True, kw_only=True, tag="line_cut"):
    """The cable to a gateway's meters is cut."""

    gateway: int = 0


class MeterSwapped(_Lasting, frozen=True, kw_only=True, tag="meter_swapped"):
    """A fitter changes a meter; for so long the gateway is not told of the new serial number."""

    gateway: int = 0
    meter: int = 0


class CertificateExpired(_Lasting, frozen=True, kw_only=True, tag="certificate_expired"):
    """The broker does not let the gateway in until its certificate is renewed."""

    gateway: int = 0


class CardStolen(_Fault, frozen=True, kw_only=True, tag="card_stolen"):
    """The gateway's card is gone, with what was on it; a new one is put in."""

    gateway: int = 0


class ClonedCard(_Lasting, frozen=True, kw_only=True, tag="cloned_card"):
    """Whoever has the gateway's key connects under its name; the two throw each other out."""

    gateway: int = 0


class SecondHeadend(_Lasting, frozen=True, kw_only=True, tag="second_headend"):
    """A second head-end under the same name, by mistake."""


class Replayed(_Fault, frozen=True, kw_only=True, tag="replayed"):
    """An attacker at the broker publishes what it has heard once more."""

    messages: int = 20


class Echoed(_Lasting, frozen=True, kw_only=True, tag="echoed"):
    """An attacker at the broker plays back every command it hears: at once, soon, when its time is nearly over."""


class Forged(_Fault, frozen=True, kw_only=True, tag="forged"):
    """An attacker at the broker publishes what it has heard, changed."""

    messages: int = 20


Fault = (
    UplinkDown
    | RadioLoss
    | BrokerRestart
    | BrokerCrash
    | PowerCut
    | PowerCutAtWrite
    | PowerCutAtOrder
    | GatewayKilled
    | HeadendKilled
    | HeadendPowerCut
    | DatabaseDown
    | DiskFull
    | DiskSlow
    | ClockJump
    | ClockLost
    | MeterDead
    | MeterLate
    | MeterStuck
    | LineCut
    | MeterSwapped
    | CertificateExpired
    | CardStolen
    | ClonedCard
    | SecondHeadend
    | Replayed
    | Echoed
    | Forged
)


def kind_of(fault: Fault) -> str:
    """Return a fault's kind, as a scenario names it."""
    kind = fault.__struct_config__.tag
    assert isinstance(kind, str)
    return kind


def ends_at_h(fault: Fault) -> float:
    """Return when a fault is over."""
    return fault.at_h + (fault.for_h if isinstance(fault, _Lasting) else 0.0)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How often a kind of fault happens to a village of one gateway, and how it is thrown."""

    per_day: float
    throw: Callable[[random.Random, float], Fault]


def _hours(dice: random.Random, shortest: float, longest: float) -> float:
    """Return a length between the two, each order of magnitude as likely."""
    length: float = shortest * (longest / shortest) ** dice.random()
    return round(length, 4)


# Far more often than in any village: a day here has a bad year's faults.
_KINDS: Final[Sequence[_Kind]] = (
    _Kind(0.6, lambda d, at: UplinkDown(at_h=at, for_h=_hours(d, 0.05, 8), gateway=_who(d))),
    _Kind(
        0.8,
        lambda d, at: RadioLoss(
            at_h=at,
            for_h=_hours(d, 0.2, 6),
            gateway=_who(d),
            latency_s=_hours(d, 0.05, 3),
            breaks=d.choice((0.0, 0.01, 0.1)),
            duplicates=d.choice((0.0, 0.05)),
        ),
    ),
    _Kind(0.3, lambda d, at: BrokerRestart(at_h=at, for_h=_hours(d, 0.01, 1))),
    _Kind(0.4, lambda d, at: BrokerCrash(at_h=at, lost_tail_s=_hours(d, 1, 3600))),
    _Kind(
        0.6,
        lambda d, at: PowerCut(
            at_h=at,
            for_h=_hours(d, 0.01, 6),
            gateway=_who(d),
            wall_after=d.choice(("kept", "1970", "stopped", "ahead")),
            drift_ppm=d.uniform(-100, 100),
            no_time_h=d.choice((0.0, _hours(d, 0.05, 5))),
        ),
    ),
    _Kind(0.8, lambda d, at: PowerCutAtWrite(at_h=at, gateway=_who(d), write=d.randint(1, 60))),
    _Kind(0.6, lambda d, at: GatewayKilled(at_h=at, gateway=_who(d))),
    _Kind(0.5, lambda d, at: HeadendKilled(at_h=at, for_h=_hours(d, 0.002, 3))),
    _Kind(0.4, lambda d, at: HeadendPowerCut(at_h=at, for_h=_hours(d, 0.01, 3))),
    _Kind(0.3, lambda d, at: DatabaseDown(at_h=at, for_h=_hours(d, 0.01, 2))),
    _Kind(0.3, lambda d, at: DiskFull(at_h=at, for_h=_hours(d, 0.05, 3), gateway=_who(d))),
    _Kind(
        0.2,
        lambda d, at: DiskSlow(
            at_h=at, for_h=_hours(d, 0.1, 3), gateway=_who(d), sync_s=_hours(d, 0.1, 5)
        ),
    ),
    _Kind(
        0.2,
        lambda d, at: ClockJump(
            at_h=at, gateway=_who(d), by_s=d.choice((-1, 1)) * _hours(d, 10, 86_400)
        ),
    ),
    _Kind(0.3, lambda d, at: ClockLost(at_h=at, for_h=_hours(d, 0.5, 12), gateway=_who(d))),
    _Kind(0.5, lambda d, at: MeterDead(at_h=at, for_h=_hours(d, 0.1, 8), **_which(d))),
    _Kind(
        0.4,
        lambda d, at: MeterLate(
            at_h=at, for_h=_hours(d, 0.1, 4), **_which(d), delay_s=_hours(d, 0.1, 30)
        ),
    ),
    _Kind(
        0.4,
        lambda d, at: MeterStuck(
            at_h=at, for_h=_hours(d, 0.5, 8), **_which(d), answer_lost=d.random() < 0.5
        ),
    ),
    _Kind(0.2, lambda d, at: LineCut(at_h=at, for_h=_hours(d, 0.05, 3), gateway=_who(d))),
    _Kind(0.15, lambda d, at: MeterSwapped(at_h=at, for_h=_hours(d, 0.05, 3), **_which(d))),
    _Kind(
        0.15, lambda d, at: CertificateExpired(at_h=at, for_h=_hours(d, 0.1, 6), gateway=_who(d))
    ),
    _Kind(0.05, lambda d, at: CardStolen(at_h=at, gateway=_who(d))),
    _Kind(0.1, lambda d, at: ClonedCard(at_h=at, for_h=_hours(d, 0.02, 0.5), gateway=_who(d))),
    _Kind(0.1, lambda d, at: SecondHeadend(at_h=at, for_h=_hours(d, 0.02, 0.5))),
    _Kind(1.0, lambda d, at: Replayed(at_h=at, messages=d.randint(1, 40))),
    _Kind(1.0, lambda d, at: Forged(at_h=at, messages=d.randint(1, 40))),
    _Kind(0.5, lambda d, at: Echoed(at_h=at, for_h=_hours(d, 1, 12))),
    _Kind(1.0, lambda d, at: PowerCutAtOrder(at_h=at, gateway=_who(d), write=d.randint(1, 3))),
    _Kind(
        0.15,
        lambda d, at: BrokerCrash(at_h=at, lost_tail_s=_hours(d, 1, 3600), headend_away=True),
    ),
)


def _who(dice: random.Random) -> int:
    return dice.randrange(1000)


def _which(dice: random.Random) -> dict[str, int]:
    return {"gateway": dice.randrange(1000), "meter": dice.randrange(1000)}


def dice_faults(seed: int, days: float) -> tuple[Fault, ...]:
    """Return the faults of a seed over so many days, in the order of time: all kinds, everywhere."""
    dice = random.Random(f"faults {seed}")
    found: list[Fault] = []
    for kind in _KINDS:
        at_h = dice.expovariate(kind.per_day / 24)
        while at_h < days * 24:
            found.append(kind.throw(dice, round(at_h, 4)))
            at_h += dice.expovariate(kind.per_day / 24)
    return tuple(sorted(found, key=lambda fault: fault.at_h))
