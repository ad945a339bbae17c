"""Who a bulk disconnection would cut off, and who not and why: looked at before anything is proposed. Pure."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from openami.headend.assets import FeederAssets, MeterRole
from openami.headend.bulk import bulk_room
from openami.headend.store import MeterRow, Reading
from openami.profile import Quality
from openami.sip.actions import ACTIONS, Action


class LeftOut(StrEnum):
    """Why a meter that was named is not cut off."""

    UNKNOWN = "unknown"
    """No such meter was ever heard of on the feeder."""
    NO_CUSTOMER = "no_customer"
    """It measures the feeder or a pole, or is the gateway itself."""
    PROTECTED = "protected"
    """A critical customer's, by the assets."""
    SECOND_SIGNATURE = "second_signature"
    """The keyring protects it: each such command needs a signature of its own."""
    ALREADY_ASKED = "already_asked"
    """A command already asks for it."""
    ALREADY_OFF = "already_off"
    """Its relay was last read open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A house that would be cut off, as a person knows it."""

    meter: MeterRow
    customer: str
    pole: str
    relay: Reading | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen."""

    chosen: tuple[Chosen, ...]
    left_out: tuple[tuple[str, LeftOut], ...]

    @property
    def houses(self) -> tuple[tuple[str, str], ...]:
        """Return who would be cut off: serials and their gateways."""
        return tuple((each.meter.meter_serial, each.meter.gateway_id) for each in self.chosen)

    def hours(self, per_hour: int) -> float | None:
        """Return how long it takes at least; None where nobody may be cut off at all."""
        room = bulk_room(per_hour, 0)
        return None if room == 0 else max(0, len(self.chosen) - room) / room


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederFacts:
    """What a preview looks at."""

    meters: Mapping[str, MeterRow]
    assets: FeederAssets
    relays: Mapping[str, Reading]
    protected: Mapping[str, AbstractSet[str]]
    """By the keyrings: the protected meters, by gateway."""
    asked: Collection[str]
    """The meters for which a command to cut them off is open."""


def preview(serials: Sequence[str], facts: FeederFacts, now: datetime) -> Preview:
    """Return who would be cut off and who not, each once and in the order they were named."""
    chosen: list[Chosen] = []
    left_out: list[tuple[str, LeftOut]] = []
    for serial in dict.fromkeys(serials):
        why = _left_out(serial, facts, now)
        if why is not None:
            left_out.append((serial, why))
            continue
        placed = facts.assets.meter(serial, now)
        customer = facts.assets.customer_of(serial, now)
        pole = facts.assets.pole(None if placed is None else placed.pole_id)
        chosen.append(
            Chosen(
                meter=facts.meters[serial],
                customer="" if customer is None else customer.name,
                pole="" if pole is None else pole.name,
                relay=facts.relays.get(serial),
            )
        )
    return Preview(tuple(chosen), tuple(left_out))


def _left_out(serial: str, facts: FeederFacts, now: datetime) -> LeftOut | None:
    meter = facts.meters.get(serial)
    if meter is None:
        return LeftOut.UNKNOWN
    placed = facts.assets.meter(serial, now)
    is_customers = placed is None or placed.role is MeterRole.CUSTOMER
    if serial == meter.gateway_id or not is_customers:
        return LeftOut.NO_CUSTOMER
    if placed is not None and placed.protected:
        return LeftOut.PROTECTED
    if serial in facts.protected.get(meter.gateway_id, ()):
        return LeftOut.SECOND_SIGNATURE
    if serial in facts.asked:
        return LeftOut.ALREADY_ASKED
    relay = facts.relays.get(serial)
    off = ACTIONS[Action.DISCONNECT].relay_state
    if relay is not None and relay.value == off and relay.quality is Quality.GOOD:
        return LeftOut.ALREADY_OFF
    return None
