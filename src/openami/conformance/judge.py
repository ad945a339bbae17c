"""The judge: observations in, one judgement out, whenever somebody asks.

It hands each observation to the rules and keeps of their answers a count, and the first few as evidence. A
requirement that is the profile's own word can be failed; one that is our decision can only be warned of
(decision 0045).

Its memory is bounded: counts and a few pieces of evidence for each requirement, and what the rules remember,
each within its own bound. A run may last a week.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from openami import __version__
from openami.conformance.excerpt import EXCERPT_CHARS_MAX, excerpt
from openami.conformance.judgement import Evidence, Finding, Judgement, Kind, Subject, Verdict
from openami.conformance.message import read_message, sender_of
from openami.conformance.observation import Connected, Observation, Published, Sent
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Group, Seen, Waiting
from openami.conformance.rules.groups import groups
from openami.profile import SCHEMA_VERSION, RegisterCatalogue, one_line, shipped_catalogue
from openami.profile.requirements import Requirement, requirements

# A person reads the first few; the count says how many there were.
EVIDENCE_KEPT_MAX: Final = 5
# A good topic has 230 characters at most; a longer one is told by its beginning.
TOPIC_CHARS_MAX: Final = 256
# A village has a few gateways; of a hundred broken ones twenty names are enough to begin with.
NAMES_KEPT_MAX: Final = 20
# Connections whose client is known by name; the kit's door holds far fewer at once.
CLIENTS_KEPT_MAX: Final = 1_000


class Judge:
    """Judges one subject: the gateways, or the head-end, of what it is shown.

    ``began_at`` is the kit's time when it began to look. ``vendor``, ``model`` and ``firmware`` are as the
    vendor says them.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        began_at: datetime,
        catalogue: RegisterCatalogue | None = None,
        vendor: str = "",
        model: str = "",
        firmware: str = "",
    ) -> None:
        self._kind = kind
        self._began_at = began_at
        self._catalogue = catalogue or shipped_catalogue()
        self._said = (vendor, model, firmware)
        self._names: dict[str, None] = {}  # bound: NAMES_KEPT_MAX
        self._tallies = {
            each.id: _Tally(each) for each in requirements().values() if kind in each.of
        }
        self._groups: tuple[Group, ...] = groups(kind, self._catalogue)
        self._waiting = [group for group in self._groups if isinstance(group, Waiting)]
        self._clients: Recent[int, str] = Recent(CLIENTS_KEPT_MAX)

    def see(self, observation: Observation) -> None:
        """Take one observation into account; they come in the order of their times."""
        seen: Seen
        if isinstance(observation, Published):
            message = read_message(observation)
            if message is None:
                return  # somebody else's, on the same broker
            seen = message
            if message.party == self._kind:
                self._note_name(self._whose(observation))
        else:
            seen = observation
            if isinstance(observation, Connected):
                self._clients.note(observation.connection, observation.client_id)
        self._look(observation.at)
        for group in self._groups:
            self._count(group.see(seen), observation.at, observation)

    def judgement(self, now: datetime) -> Judgement:
        """Return what can be said by now; more may be seen afterwards."""
        self._look(now)
        findings = tuple(tally.finding() for tally in self._tallies.values())
        vendor, model, firmware = self._said
        return Judgement(
            profile_version=SCHEMA_VERSION,
            kit_version=__version__,
            began_at=self._began_at,
            ended_at=now,
            subject=Subject(self._kind, tuple(self._names), vendor, model, firmware),
            findings=findings,
            conforms=all(
                finding.verdict == "passed"
                if self._kind in requirements()[finding.requirement].core
                else finding.verdict != "failed"
                for finding in findings
            ),
        )

    def _look(self, now: datetime) -> None:
        """Ask the rules what was due before now and did not come.

        Before each observation, not now and then: whoever replays a run has to come to the same judgement.
        """
        for group in self._waiting:
            self._count(group.look(now), now, None)

    def _count(
        self, occasions: Iterable[Occasion], at: datetime, observation: Observation | None
    ) -> None:
        about = observation if isinstance(observation, Published | Sent) else None
        for occasion in occasions:
            tally = self._tallies.get(occasion.requirement)
            if tally is not None:
                said = occasion.about or about
                by = occasion.by if occasion.fault is None else occasion.by or self._whose(said)
                tally.add(occasion, by, occasion.at or at, said)

    def _whose(self, about: Published | Sent | None) -> str:
        """Return who is meant: a gateway by its topic, a head-end by its client or by whom it speaks to."""
        if about is None:
            return ""
        client = ""
        if isinstance(about, Published) and about.connection is not None:
            client = self._clients.get(about.connection) or ""
        gateway = sender_of(about.topic)
        if self._kind == "gateway":
            return one_line(gateway or client)
        return one_line(client or (f"the head-end of {gateway}" if gateway else ""))

    def _note_name(self, name: str) -> None:
        if name and name not in self._names and len(self._names) < NAMES_KEPT_MAX:
            self._names[name] = None


class _Tally:
    """What was seen of one requirement."""

    def __init__(self, requirement: Requirement) -> None:
        self._requirement = requirement
        self._seen = 0
        self._broken = 0
        self._kept: Evidence | None = None
        self._faults: list[Evidence] = []  # bound: EVIDENCE_KEPT_MAX
        self._broken_by: dict[str, None] = {}  # bound: NAMES_KEPT_MAX

    def add(
        self, occasion: Occasion, by: str, at: datetime, about: Published | Sent | None
    ) -> None:
        """Count one occasion; keep it as evidence where there is room and it shows something new."""
        self._seen += 1
        if occasion.fault is None:
            if self._kept is None:
                self._kept = _evidence(occasion, at, about)
            return
        self._broken += 1
        if by and len(self._broken_by) < NAMES_KEPT_MAX:
            self._broken_by[one_line(by)] = None
        if len(self._faults) >= EVIDENCE_KEPT_MAX:
            return
        place = ("" if about is None else about.topic, occasion.pointer)
        if all(place != (each.topic, each.pointer) or not each.topic for each in self._faults):
            self._faults.append(_evidence(occasion, at, about))

    def finding(self) -> Finding:
        """Return what is said about it by now."""
        requirement, verdict = self._requirement, self._verdict()
        kept = () if self._kept is None else (self._kept,)
        return Finding(
            requirement=requirement.id,
            text=requirement.text,
            source=requirement.source,
            how=requirement.how,
            verdict=verdict,
            seen=self._seen,
            broken=self._broken,
            evidence=tuple(self._faults) or kept,
            remedy=requirement.remedy if self._broken else "",
            exercise=requirement.exercise if verdict == "not exercised" else "",
            broken_by=tuple(self._broken_by),
        )

    def _verdict(self) -> Verdict:
        if not self._requirement.testable:
            return "not testable"
        if not self._seen:
            return "not exercised"
        if not self._broken:
            return "passed"
        return "failed" if self._requirement.is_profile else "warning"


def _evidence(occasion: Occasion, at: datetime, about: Published | Sent | None) -> Evidence:
    detail = one_line(occasion.fault or "")
    if about is None:
        return Evidence(at, detail or occasion.by)
    return Evidence(
        at=about.at,
        detail=detail,
        topic=one_line(about.topic[:TOPIC_CHARS_MAX]),
        pointer=one_line(occasion.pointer[:EXCERPT_CHARS_MAX]),
        excerpt=excerpt(about.payload, occasion.pointer),
    )
