"""One signed event for all that was refused in silence: how often, by which codes.

Whoever has no key gets no answer, so nobody can use us to find out what is right or to fill the line with refusals.
The operator still wants to know that somebody tries.
"""

import json
from collections.abc import Mapping
from datetime import datetime

import msgspec

from openami.gateway.entries import Sealed
from openami.gateway.event_types import EventType
from openami.gateway.events import event_envelope, serial_reading
from openami.gateway.handshake import Self
from openami.gateway.normalise import Source, to_the_millisecond
from openami.gateway.reporting import event_topic
from openami.profile import EventState, FeederId, GatewayId, MeterSerial, Quality
from openami.sip.acts import ActType
from openami.sip.compose import printed, sign
from openami.sip.keys import Signer


def silent_refusals_event(
    counts: Mapping[str, int], *, me: Self, signer: Signer, now: datetime
) -> Sealed:
    """Return the event, about the gateway itself (decision 0009), to be numbered and signed."""
    total = sum(counts.values())
    codes = ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
    envelope = event_envelope(
        EventType.COMMANDS_REFUSED,
        EventState.INSTANT,
        source=Source(FeederId(me.feeder_id), GatewayId(me.gateway_id)),
        serial=MeterSerial(me.gateway_id),
        occurred_at=to_the_millisecond(now),
        registers=(serial_reading(me.gateway_id, Quality.GOOD),),
        ts=to_the_millisecond(now),
        detail=f"{total} messages were refused in silence: {codes}",
    )

    def seal(seq: int) -> bytes:
        members = json.loads(msgspec.structs.replace(envelope, seq=seq).encode())
        return printed(sign(members, signer, ActType.REPORT, iat=int(now.timestamp())))

    topic = event_topic(me.feeder_id, me.gateway_id, me.gateway_id)
    return Sealed(str(topic), now, seal)
