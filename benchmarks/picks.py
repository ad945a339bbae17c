"""Which of what the benchmarks print are figures of the table, and what the table calls them (pure).

A benchmark prints JSON lines of its own shape, made for whoever works on what it measures. A `Pick` says where in
them a figure is. Newer benchmarks print figures themselves and need none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure, figure, rounded

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pick:
    """Where a figure is: in the line that has ``where``; paths are members, inner ones after a dot.

    A value that is a list are samples; without ``low`` and ``high`` the value is all that is known.
    """

    name: str
    words: str
    unit: str
    where: Mapping[str, object]
    value: str
    low: str = ""
    high: str = ""

    def of(self, line: Line) -> Figure | None:
        """Return the figure, if this is its line. Raises KeyError when the line has it not."""
        if any(line.get(name) != wanted for name, wanted in self.where.items()):
            return None
        value = member(line, self.value)
        if isinstance(value, list):
            return figure(self.name, self.words, self.unit, value)
        return Figure(
            name=self.name,
            words=self.words,
            unit=self.unit,
            value=rounded(value),
            low=rounded(member(line, self.low or self.value)),
            high=rounded(member(line, self.high or self.value)),
            repeats=line.get("repeats", line.get("runs", 1)),
        )


def member(line: Line, path: str) -> Any:
    """Return what is at a path; numbers in it are places in a list."""
    found: Any = line
    for name in path.split("."):
        found = found[int(name) if isinstance(found, list) else name]
    return found


def spread(name: str, words: str, unit: str, value: str, **where: object) -> Pick:
    """Return a pick of a member that has median, min and max."""
    return Pick(name, words, unit, where, f"{value}.median", f"{value}.min", f"{value}.max")


def _cases(
    group: str, unit: str, value: str, low: str = "", high: str = ""
) -> Callable[[str, str, str], Pick]:
    """Return how the picks of lines are made that differ by their ``case``: of a name, words, and the case."""
    return lambda name, words, case: Pick(
        f"{group}.{name}", words, unit, {"case": case}, value, low, high
    )


_decode = _cases("decode", "envelopes/s", "median_per_s", "min_per_s", "max_per_s")
_sip = _cases("sip", "ms", "ms_median", "ms_best", "ms_worst")
_judge = _cases("judge", "messages/s", "per_s")


def ingest(engine: str, suffix: str = "") -> tuple[Pick, ...]:
    name = f"ingest{suffix}.{engine}"
    store = {"sqlite": "SQLite", "postgres": "PostgreSQL"}[engine]
    cpu, memory = "head-end's processor an envelope", "head-end's memory at the end"
    return (
        spread(f"{name}.rate", f"{store}: stored", "envelopes/s", "envelopes_per_s"),
        spread(f"{name}.cpu", f"{store}: {cpu}", "µs", "headend_cpu_us_per_envelope"),
        spread(f"{name}.rss", f"{store}: {memory}", "MB", "headend_rss_mb_at_100%"),
    )


_PAGES = {
    "overview: every meter today": "overview",
    "overview: today by quarter hour": "overview_quarters",
    "balance: a month by day": "month",
    "completeness: a day of every meter": "completeness",
    "meter: latest": "latest",
    "meter: a month by day": "meter_month",
    "meter: all days": "meter_all",
    "meter: chart of a week": "chart_week",
    "meter: chart of all": "chart_all",
    "meter: a day's readings": "meter_day",
    # Reckoned beside the page, so without its bound.
    "balance: a month and its history by hour": "balance_hours",
}


_WHOLE_PAGES = {
    "feeder": "a feeder: every house, today and the month",
    "meters": "the list of meters",
    "meter": "a meter",
    "readings": "a meter's readings",
    "completeness": "completeness",
    "alarms": "alarms",
}


def pages(engine: str) -> tuple[Pick, ...]:
    p95 = _cases(f"pages.{engine}", "ms", "p95_ms", "p50_ms", "p95_ms")
    queries = (p95(name, f"{case}: p95, from the median", case) for case, name in _PAGES.items())
    whole = (
        p95(f"whole.{name}", f"the whole page, {words}: p95", f"page: {name}")
        for name, words in _WHOLE_PAGES.items()
    )
    return (*queries, *whole)


def _door(name: str, words: str, case: str) -> tuple[Pick, ...]:
    puback = (f"{words}: PUBACK after, p99 from the median", case)
    return (
        _cases("door", "messages/s", "per_s")(f"{name}.rate", words, case),
        _cases("door", "µs", "kit_cpu_us")(
            f"{name}.cpu", f"{words}: the kit's processor a message", case
        ),
        _cases("door", "ms", "puback_p99_ms", "puback_p50_ms", "puback_p99_ms")(
            f"{name}.puback", *puback
        ),
    )


def _share(name: str, words: str, of: str) -> Pick:
    where = {"case": "villages with thefts"}
    return Pick(f"theft.{name}", words, "share", where, f"{of}.share", f"{of}.low", f"{of}.high")


def _soak(name: str, words: str, unit: str = "count") -> Pick:
    return Pick(f"soak.{name}", words, unit, {"benchmark": "soak"}, name)


def _month(case: str, words: str, unit: str) -> Pick:
    where = {"benchmark": "month", "case": case}
    return Pick(f"month.{case}", words, unit, where, "last third", "second third", "last third")


# fmt: off
DECODE = (
    _decode("example", "the profile's example, ids included", "the profile's example"),
    _decode("stream", "500 meters, 3 registers, every message different", "stream, 3 registers"),
    _decode("seq", "the same with `seq`", "stream, 3 registers, seq"),
    _decode("twelve", "12 registers", "stream, 12 registers"),
    _decode("full_codes", "3 registers with full codes `1-0:1.8.0*255`", "stream, 3 registers, full codes"),
    _decode(
        "unknown", "with a member we do not know: read twice",
        "stream, 3 registers, an unknown member: read twice"
    ),
    _decode("audit", "the audit", "audit of the stream, 3 registers"),
    _decode("rejected", "rejected, one wrong quality", "rejected: a quality that is none"),
    _decode("deep", "rejected, 60,000 deep", "rejected: 60,000 deep"),
    _decode(
        "twice", "rejected, 64 KB of members that stand twice", "rejected: 64 KB of members that stand twice"
    ),
)
SIP = (
    _sip("verify", "a command verified", "verify a command"),
    _sip("verify_two", "with two persons", "with two persons"),
    _sip("keyring", "a keyring of 80 identities admitted", "load a keyring of 80 identities"),
)
JUDGE = (
    _judge("door", "at the kit's door: connection, packet id and acknowledgement with each", "at the kit's door"),
    _judge("broker", "through a broker", "through a broker"),
    _judge("faults", "each with a fault, so that each is audited", "each with a fault"),
)
DOOR = (
    *_door("paced", "at 1,000 a second", "at 1000 a second"),
    *_door("flat_out", "as fast as it goes", "as fast as it goes"),
)
WORLD = (
    Pick(
        "world.message", "a message, from the meter into the store, witness included", "µs",
        {"case": "village-day, 100 meters at 60 s"}, "us_per_message"
    ),
    Pick("world.day", "a diced village-day, mean", "s", {"case": "diced village-days"}, "cpu_s_mean"),
)
LINE = (
    Pick("line.cycle", "a cycle of sixty SDM230s at 9600 Bd", "s", {"baudrate": 9600}, "cycles_s"),
    Pick("line.first", "the first cycle, with a sync read each", "s", {"baudrate": 9600}, "first_cycle_s"),
)
OUTBOX = (
    *(
        spread(
            f"outbox.append.{meters}", f"made durable, {meters} meters a cycle", "readings/s", "readings_per_s",
            bench="outbox_append", meters=meters
        )
        for meters in (1, 20, 100)
    ),
    spread(
        "outbox.disk.append", "to the disk for a reading, 20 meters: taken in", "B", "bytes_per_reading_append",
        bench="outbox_append", meters=20
    ),
    spread(
        "outbox.disk.mark", "and marked as sent", "B", "bytes_per_reading_mark", bench="outbox_append", meters=20
    ),
    *(
        spread(
            f"outbox.drain.{window}", f"drained through mosquitto, {window} under way", "envelopes/s",
            "envelopes_per_s", bench="outbox_drain", window=window
        )
        for window in (20, 100)
    ),
    spread("outbox.state", "what is in it, at 72,000 entries", "ms", "state_ms", bench="outbox_state"),
)
GATEWAY = (
    Pick(
        "gateway.cpu", "of one core, 100 meters polled each minute", "%", {"meters": 100}, "cpu_percent",
        "cpu_percent_spread.0", "cpu_percent_spread.1"
    ),
    Pick("gateway.rss", "resident, the greatest", "MB", {"meters": 100}, "rss_mb", "rss_mb_first", "rss_mb"),
)
COMMAND = (
    Pick(
        "command.p50", "a disconnect, from its request to its verified end: median", "ms", {"bench": "command"},
        "total_ms.p50"
    ),
    Pick("command.p95", "p95", "ms", {"bench": "command"}, "total_ms.p95"),
    Pick("command.max", "the longest", "ms", {"bench": "command"}, "total_ms.max"),
)
THEFT = (
    _share("precision", "of the meters named: energy passed by", "precision"),
    _share("recall", "of the meters that energy passed by: named", "recall"),
    _share(
        "recall_material", "the same, above 1 % of the feeder's supply",
        "recall of thefts above 1 % of the supply"
    ),
    Pick(
        "theft.false", "meters falsely named in 100 honest village-months", "", {"case": "honest villages"},
        "per 100 village-months", "per 100 village-months", "at most (95 %)"
    ),
)
MONTH = (
    _month("tasks", "tasks, the last third beside the second", "count"),
    _month("open_files", "open files, the same", "count"),
    _month("objects", "Python objects, the same", "objects"),
    _month("card_bytes", "the gateways' cards, the same", "B"),
)
SOAK = (
    _soak("lost", "readings lost, of two days without an uplink"),
    _soak("doubled", "doubled"),
    _soak("changed", "changed"),
    _soak("added", "added"),
    _soak("fill_envelopes_per_s", "filled", "envelopes/s"),
    _soak("drain_envelopes_per_s", "drained, through broker and head-end into the store", "envelopes/s"),
)
# fmt: on
