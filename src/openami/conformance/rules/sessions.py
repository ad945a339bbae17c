"""Sessions: the six fields, the answer to an offer, and nonces that are new."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import ClassVar, Final

from openami.conformance.judgement import Kind
from openami.conformance.message import Message, acts_of
from openami.conformance.observation import Act, Sent
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import SessionTopic
from openami.sip.acts import ActType

# A gateway answers at once; a minute holds a round trip over GPRS, and one that is busy with a meter.
ANSWERED_WITHIN_S: Final = 60
# Offers that wait for their answer; a gateway holds eight sessions.
OFFERS_KEPT_MAX: Final = 64
# Nonces that are remembered: at one an hour and session, those of a village for a week.
NONCES_KEPT_MAX: Final = 10_000

_FIELDS: Final = (
    *("sessionId", "participants", "feederScope", "validFrom", "validTo", "signature"),
)


class Sessions:
    """Judges what is published on session topics."""

    requirements: ClassVar = frozenset(("OA-SES-003", "OA-SES-004", "OA-SES-005"))

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._offers: Recent[str, Sent] = Recent(OFFERS_KEPT_MAX)
        self._nonces: Recent[str, str] = Recent(NONCES_KEPT_MAX)

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Sent(purpose=Act.SESSION_OFFERED):
                self._offers.note(seen.topic, seen)
            case Message(kind=kind) if kind is SessionTopic and seen.party == self._kind:
                return self._judge(seen)
            case _:
                pass
        return ()

    def look(self, now: datetime) -> Iterable[Occasion]:
        for topic, offer in self._offers.items():
            if now > offer.at + timedelta(seconds=ANSWERED_WITHIN_S):
                self._offers.forget(topic)
                fault = f"the offer had no answer on its topic within {ANSWERED_WITHIN_S} s"
                yield Occasion("OA-SES-004", fault, about=offer)

    def _judge(self, message: Message) -> Iterator[Occasion]:
        published = message.published
        missing = [name for name in _FIELDS if name not in message.members]
        fault = None
        if missing:
            fault = f"of the six fields of a session these are missing: {', '.join(missing)}"
        yield Occasion("OA-SES-003", fault)
        for act in acts_of(published.payload):
            answers = act.type in (ActType.ACCEPT, ActType.REJECT)
            if answers and self._offers.forget(published.topic) is not None:
                yield Occasion("OA-SES-004")
            if act.nonce is not None:
                yield from self._judge_nonce(act.nonce, act.text)

    def _judge_nonce(self, nonce: str, text: str) -> Iterator[Occasion]:
        told = self._nonces.get(nonce)
        self._nonces.note(nonce, text)
        if told == text:
            return
        fault = None if told is None else f"the nonce {nonce} was used in another accept before"
        yield Occasion("OA-SES-005", fault, "/signature" if fault else "")
