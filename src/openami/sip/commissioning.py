"""What a commissioning record says, and whether it comes to an acceptance (pure, decision 0063).

The gateway's pages and commands make these values, the record carries them, whoever verifies it judges them anew:
one rule, `open_points`, says what is still open, so that a record cannot say "accepted" of what it does not show.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

# A gateway serves at most so many (its configuration's own bound).
METERS_MAX: Final = 1000
# Every meter under every rule, and a few of the gateway's own.
RESULTS_MAX: Final = 16 * METERS_MAX
# Every address of some lines may be a stranger's, beside the configured meters.
FINDINGS_MAX: Final = 4 * METERS_MAX
# A sentence or three, typed with gloves on; a page of it is something else.
NOTE_CHARS_MAX: Final = 500
# A name and a firm.
NAME_CHARS_MAX: Final = 64
# A driver's complaint may quote a whole frame.
WORDS_CHARS_MAX: Final = 600

Note = Annotated[str, Meta(max_length=NOTE_CHARS_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Words = Annotated[str, Meta(max_length=WORDS_CHARS_MAX)]
_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Share = Annotated[float, Meta(ge=-1, le=1)]


class _Member(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """A part of the record: a closed set of members."""


# --- on the bench --------------------------------------------------------------------------------


class BenchVerdict(StrEnum):
    """How a place on a line compares with the configuration."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    UNKNOWN = "unknown"
    """Something answers that the configuration does not know."""
    WRONG_SERIAL = "wrong_serial"
    CLASH = "clash"
    """What answers there is garbled, or changes: two meters may share the address."""


class BenchFinding(_Member, frozen=True, kw_only=True):
    """One place on a line: what is configured there and what answered."""

    line: Words
    address: Words
    verdict: BenchVerdict
    meter: str | None = None
    """The configured serial; None where nothing is configured."""
    told: Words | None = None
    """The serial number the meter itself told."""
    words: Words = ""
    remedy: Words = ""

    @property
    def about(self) -> str:
        """What a deviation names it by."""
        return self.meter or f"{self.line}/{self.address}"


class Bench(_Member, frozen=True, kw_only=True):
    """The scan of every line, before the pole."""

    at: datetime
    findings: Annotated[tuple[BenchFinding, ...], Meta(max_length=FINDINGS_MAX)] = ()


# --- on the walk ---------------------------------------------------------------------------------


class LoadVerdict(StrEnum):
    """What became of the power at a meter when a load was switched on behind it."""

    ROSE = "rose"
    UNCHANGED = "unchanged"
    FELL = "fell"
    """The power fell, or counts as export: the meter is wired backwards."""
    ELSEWHERE = "elsewhere"
    """Nothing here, and another meter's power rose by as much: the two may be swapped."""
    SILENT = "silent"
    """The meter did not answer, or tells no power."""


class LoadTest(_Member, frozen=True, kw_only=True):
    """A load of known size switched on behind a meter. Powers in watts, imports positive."""

    load_w: Annotated[int, Meta(ge=1, le=100_000)]
    before_w: float | None
    after_w: float | None
    verdict: LoadVerdict
    elsewhere: Annotated[tuple[str, ...], Meta(max_length=METERS_MAX)] = ()
    at: datetime


class Identified(StrEnum):
    """How it is known which meter it is."""

    TOLD = "told"
    """It told its serial number itself."""
    NAMEPLATE = "nameplate"
    """It tells none; a person has compared the plate."""
    NOT = "not"


class Outcome(StrEnum):
    """What the integrator says of a meter."""

    OK = "ok"
    PROBLEM = "problem"


class Tick(_Member, frozen=True, kw_only=True):
    """One meter as it was left, by whom and when."""

    meter: Name
    outcome: Outcome
    at: datetime
    by: Name
    identified: Identified
    told: Words | None = None
    load: LoadTest | None = None
    note: Note = ""


# --- the first hour ------------------------------------------------------------------------------


class RuleVerdict(StrEnum):
    """How a rule came out; a warning is told and does not stand in the way."""

    PASS = "pass"  # noqa: S105 – the word of a verdict
    WARN = "warn"
    FAIL = "fail"


class RuleResult(_Member, frozen=True, kw_only=True):
    """One rule on one meter, or on the gateway: what was measured, what was asked, what to do."""

    rule: Name
    verdict: RuleVerdict
    measured: Words
    meter: str = ""
    """Empty for what is about the gateway or the feeder."""
    remedy: Words = ""


class Limits(_Member, frozen=True, kw_only=True):
    """What the first hour is held to. The reasons stand in docs/commissioning.md."""

    read_share_pass: _Share = 0.98
    read_share_warn: _Share = 0.90
    nominal_v: Annotated[float, Meta(gt=0, le=1000)] = 230.0
    voltage_share_warn: _Share = 0.10
    voltage_share_fail: _Share = 0.15
    clock_drift_s_warn: Annotated[float, Meta(ge=0)] = 20.0
    clock_drift_s_fail: Annotated[float, Meta(ge=0)] = 60.0
    loss_share_min: _Share = -0.02
    loss_share_warn: _Share = 0.10
    loss_share_fail: _Share = 0.20
    energy_share: _Share = 0.25
    unsent_s_warn: Annotated[float, Meta(ge=0)] = 600.0
    certificate_days_warn: Annotated[int, Meta(ge=0)] = 30
    room_days_warn: Annotated[float, Meta(ge=0)] = 14.0
    room_days_fail: Annotated[float, Meta(ge=0)] = 3.0


class Acceptance(_Member, frozen=True, kw_only=True):
    """The first hour, judged."""

    began_at: datetime
    ended_at: datetime
    judged_at: datetime
    feeder_meter: str | None
    limits: Limits
    results: Annotated[tuple[RuleResult, ...], Meta(max_length=RESULTS_MAX)]


class Deviation(_Member, frozen=True, kw_only=True):
    """Something that is not as it should be, and that somebody answers for."""

    rule: Name
    about: Words = ""
    reason: Annotated[str, Meta(min_length=1, max_length=NOTE_CHARS_MAX)]
    by: Name
    at: datetime


# --- the whole -----------------------------------------------------------------------------------


class CommissionedMeter(_Member, frozen=True, kw_only=True):
    """One configured meter: what is published, by which driver it is read, by which map."""

    serial: Name
    line: Words
    driver: Words
    map: Words | None = None
    map_sha256: _Sha256 | None = None
    """Of the map's file; None where the driver has no file of that name."""
    options_sha256: _Sha256
    """Of the meter's own options in canonical JSON: address, ratios, identity."""


class Content(_Member, frozen=True, kw_only=True):
    """What a record tells, but for who signed it."""

    feeder_id: Name
    gateway_id: Name
    made_at: datetime
    made_by: Name
    openami: Name
    configuration_sha256: _Sha256
    meters: Annotated[tuple[CommissionedMeter, ...], Meta(max_length=METERS_MAX)]
    bench: Bench | None = None
    walk: Annotated[tuple[Tick, ...], Meta(max_length=METERS_MAX)] = ()
    swapped: Annotated[tuple[tuple[str, str], ...], Meta(max_length=METERS_MAX)] = ()
    """Pairs of meters each of which showed the other's load: they are wired to each other's houses."""
    acceptance: Acceptance | None = None
    deviations: Annotated[tuple[Deviation, ...], Meta(max_length=RESULTS_MAX)] = ()


class Point(msgspec.Struct, frozen=True):
    """Something that stands between a record and its acceptance."""

    rule: str
    about: str
    words: str


def open_points(content: Content) -> Sequence[Point]:
    """Return what is not as it should be and what nobody answers for; nothing: accepted."""
    answered_for = {(each.rule, each.about) for each in content.deviations}
    return [each for each in points(content) if (each.rule, each.about) not in answered_for]


def points(content: Content) -> Iterator[Point]:
    """Yield everything that is not as it should be, answered for or not."""
    yield from _bench_points(content.bench)
    ticks = {tick.meter: tick for tick in content.walk}
    for meter in content.meters:
        yield from _walk_points(meter.serial, ticks)
    for one, other in content.swapped:
        yield Point("swap", one, f"it and {other} are wired to each other's houses")
    if content.acceptance is None:
        yield Point("acceptance", "", "the first hour was not judged")
    else:
        for result in content.acceptance.results:
            if result.verdict is RuleVerdict.FAIL:
                yield Point(result.rule, result.meter, result.measured)


def _bench_points(bench: Bench | None) -> Iterator[Point]:
    if bench is None:
        yield Point("bench", "", "no line was scanned")
        return
    for finding in bench.findings:
        if finding.verdict is not BenchVerdict.FOUND:
            yield Point("bench", finding.about, finding.words or finding.verdict.replace("_", " "))


def _walk_points(serial: str, ticks: Mapping[str, Tick]) -> Iterator[Point]:
    tick = ticks.get(serial)
    if tick is None:
        yield Point("walk", serial, "nobody was there")
        return
    if tick.outcome is Outcome.PROBLEM:
        yield Point("walk", serial, tick.note or "left with a problem")
    if tick.identified is Identified.NOT:
        yield Point("identity", serial, "nobody has seen which meter it is")
    if tick.load is None:
        yield Point("load", serial, "no load was switched on behind it")
    elif tick.load.verdict is not LoadVerdict.ROSE:
        yield Point("load", serial, f"a load of {tick.load.load_w} W: {tick.load.verdict.value}")
