"""What `make bench` runs, in which order, and how long that takes (pure)."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

from benchmarks import picks
from benchmarks.figures import Figure, figure, read_figure
from benchmarks.picks import Line, Pick


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One command, run ``turns`` times; without arguments for quick it is left out there."""

    name: str
    module: str
    _: KW_ONLY
    full: Sequence[str] = ()
    quick: Sequence[str] | None = ()
    minutes: float
    quick_minutes: float = 0.5
    picks: Sequence[Pick] = ()
    turns: int = 1

    @property
    def needs_postgres(self) -> bool:
        return self.name.endswith(".postgres")

    def says(self, name: str) -> bool:
        """Whether a figure is one of this benchmark's."""
        if self.picks:
            return any(pick.name == name for pick in self.picks)
        return name.startswith(f"{self.name}.")

    def figures(self, runs: Sequence[Sequence[Line]]) -> list[Figure]:
        """Return the figures of the lines of its runs."""
        told: dict[str, list[Figure]] = {}
        for lines in runs:
            for each in self._figures(lines):
                told.setdefault(each.name, []).append(each)
        return [_together(those) for those in told.values()]

    def _figures(self, lines: Sequence[Line]) -> Iterator[Figure]:
        for line in lines:
            if not self.picks and "value" in line:
                yield read_figure(line)
            for pick in self.picks:
                found = pick.of(line)
                if found is not None:
                    yield found


def _together(those: Sequence[Figure]) -> Figure:
    """Return one figure of those of several runs."""
    if len(those) == 1:
        return those[0]
    middle = figure(those[0].name, those[0].words, those[0].unit, [each.value for each in those])
    return Figure(
        name=middle.name, words=middle.words, unit=middle.unit, value=middle.value,
        low=min(each.low for each in those), high=max(each.high for each in those),
        repeats=sum(each.repeats for each in those),
    )  # fmt: skip


_ENGINES = ("sqlite", "postgres")

# fmt: off
PLAN: Sequence[Benchmark] = (
    Benchmark("decode", "bench_decode", quick=("3",), minutes=2, picks=picks.DECODE),
    Benchmark("sip", "bench_sip", minutes=0.2, quick_minutes=0.2, picks=picks.SIP),
    Benchmark("judge", "bench_judge", full=("60000",), quick=("20000",), minutes=2, turns=3, picks=picks.JUDGE),
    Benchmark(
        "door", "bench_door", full=("20000",), quick=("5000",), minutes=3, quick_minutes=0.3, turns=3,
        picks=picks.DOOR
    ),
    # A day of a hundred meters takes a minute, and a shorter one says something else.
    Benchmark("world", "bench_world", quick=None, minutes=4, picks=picks.WORLD),
    Benchmark(
        "line", "bench_line", full=("60", "5"), quick=("60", "2"), minutes=1.5, quick_minutes=0.7,
        picks=picks.LINE
    ),
    Benchmark("outbox", "bench_outbox", quick=("--repeats", "1"), minutes=3, quick_minutes=1, picks=picks.OUTBOX),
    Benchmark(
        "gateway", "bench_gateway_idle", full=("100", "3"), quick=("100", "1"), minutes=4.3, quick_minutes=2.3,
        picks=picks.GATEWAY
    ),
    Benchmark("memory", "bench_memory", minutes=1.5, quick_minutes=1),
    Benchmark("wire", "bench_wire", minutes=1, quick_minutes=1),
    *(
        Benchmark(
            f"ingest.{engine}", "bench_ingest", full=(engine, "200000", "3"), quick=(engine, "40000", "1"),
            minutes=1.5, picks=picks.ingest(engine)
        )
        for engine in _ENGINES
    ),
    *(
        Benchmark(
            f"ingest_311.{engine}", "bench_ingest", full=(engine, "200000", "3", "3.1.1"), quick=None, minutes=1.5,
            picks=picks.ingest(engine, "_311")
        )
        for engine in _ENGINES
    ),
    Benchmark(
        "peers", "bench_peers", minutes=14, quick_minutes=3.5,
        quick=("--messages", "30000", "--repeats", "1", "--kills", "1", "--kill-messages", "20000")
    ),
    Benchmark("command", "bench_command", quick=("--commands", "20"), minutes=2, turns=3, picks=picks.COMMAND),
    Benchmark(
        "pages.sqlite", "bench_pages", full=("sqlite", "--days", "365"), quick=("sqlite", "--days", "37"),
        minutes=12, quick_minutes=1.5, picks=picks.pages("sqlite")
    ),
    Benchmark(
        "pages.postgres", "bench_pages", full=("postgres", "--days", "365"), quick=None, minutes=12,
        picks=picks.pages("postgres")
    ),
    Benchmark("theft", "bench_theft", quick=("--villages", "20"), minutes=6, picks=picks.THEFT),
    Benchmark("month", "bench_month", full=("30", "1"), quick=None, minutes=3, picks=picks.MONTH),
    Benchmark("soak", "soak", quick=("--hours", "1"), minutes=8, quick_minutes=0.7, picks=picks.SOAK),
    *(
        Benchmark(
            f"growth.{engine}", "bench_growth", full=(engine, "--readings", "20000000", "100000000"),
            quick=(engine, "--readings", "600000", "--repeats", "1", "--messages", "30000"), minutes=minutes,
            quick_minutes=1.5
        )
        for engine, minutes in zip(_ENGINES, (35, 60), strict=True)
    ),
)
# fmt: on


def chosen(names: Sequence[str], *, quick: bool, postgres: bool) -> list[Benchmark]:
    """Return what is to be run, in the plan's order. Raises ValueError for a name that is none."""
    known = [each.name for each in PLAN]
    for name in names:
        if not any(_is_named(each, name) for each in known):
            raise ValueError(f"{name} is no benchmark; there are {', '.join(known)}")
    return [
        each
        for each in PLAN
        if (not names or any(_is_named(each.name, name) for name in names))
        and not (quick and each.quick is None)
        and (postgres or not each.needs_postgres)
    ]


def _is_named(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.")


def minutes(those: Sequence[Benchmark], *, quick: bool) -> float:
    """Return how long they take on a quiet two-core machine."""
    return sum(each.quick_minutes if quick else each.minutes for each in those)
