"""What `make bench` runs, in which order, and how long that takes (pure)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import picks
from benchmarks.figures import Figure, figure, read_figure
from benchmarks.picks import Line, Pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One command, run ``turns`` times; without arguments for quick it is left out there."""

    name: str
    module: str
    full: Sequence[str] = ()
    quick: Sequence[str] | None = ()
    minutes: float
    quick_minutes: float = 0.5
    picks: Sequence[Pick] = ()
    turns: int = 1
    needs_postgres: bool = False

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


PLAN: Sequence[Benchmark] = (
    Benchmark(
        name="decode",
        module="bench_decode",
        quick=("3",),
        minutes=2,
        picks=picks.DECODE,
    ),
    Benchmark(
        name="sip",
        module="bench_sip",
        minutes=0.2,
        quick_minutes=0.2,
        picks=picks.SIP,
    ),
    Benchmark(
        name="judge",
        module="bench_judge",
        full=("60000",),
        quick=("20000",),
        minutes=2,
        turns=3,
        picks=picks.JUDGE,
    ),
    Benchmark(
        name="door",
        module="bench_door",
        full=("20000",),
        quick=("5000",),
        minutes=3,
        turns=3,
        quick_minutes=0.3,
        picks=picks.DOOR,
    ),
    Benchmark(
        name="world",
        module="bench_world",
        # A day of a hundred meters takes a minute, and a shorter one says something else.
        quick=None,
        minutes=4,
        picks=picks.WORLD,
    ),
    Benchmark(
        name="line",
        module="bench_line",
        full=("60", "5"),
        quick=("60", "2"),
        minutes=1.5,
        quick_minutes=0.7,
        picks=picks.LINE,
    ),
    Benchmark(
        name="outbox",
        module="bench_outbox",
        quick=("--repeats", "1"),
        minutes=3,
        quick_minutes=1,
        picks=picks.OUTBOX,
    ),
    Benchmark(
        name="gateway",
        module="bench_gateway_idle",
        full=("100", "3"),
        quick=("100", "1"),
        minutes=4.3,
        quick_minutes=2.3,
        picks=picks.GATEWAY,
    ),
    Benchmark(name="memory", module="bench_memory", minutes=1.5, quick_minutes=1),
    Benchmark(name="wire", module="bench_wire", minutes=1, quick_minutes=1),
    Benchmark(
        name="ingest.sqlite",
        module="bench_ingest",
        full=("sqlite", "200000", "3"),
        quick=("sqlite", "40000", "1"),
        minutes=1.5,
        picks=picks.ingest("sqlite"),
    ),
    Benchmark(
        name="ingest.postgres",
        module="bench_ingest",
        full=("postgres", "200000", "3"),
        quick=("postgres", "40000", "1"),
        minutes=1.5,
        picks=picks.ingest("postgres"),
        needs_postgres=True,
    ),
    Benchmark(
        name="ingest_v5.sqlite",
        module="bench_ingest",
        full=("sqlite", "200000", "3", "5"),
        quick=None,
        minutes=1.5,
        picks=picks.ingest("sqlite", "_v5"),
    ),
    Benchmark(
        name="ingest_v5.postgres",
        module="bench_ingest",
        full=("postgres", "200000", "3", "5"),
        quick=None,
        minutes=1.5,
        picks=picks.ingest("postgres", "_v5"),
        needs_postgres=True,
    ),
    Benchmark(
        name="peers",
        module="bench_peers",
        minutes=14,
        quick_minutes=3.5,
        quick=("--messages", "30000", "--repeats", "1", "--kills", "1", "--kill-messages", "20000"),
    ),
    Benchmark(
        name="command",
        module="bench_command",
        quick=("--commands", "20"),
        minutes=2,
        turns=3,
        picks=picks.COMMAND,
    ),
    Benchmark(
        name="pages.sqlite",
        module="bench_pages",
        full=("sqlite", "--days", "365"),
        quick=("sqlite", "--days", "37"),
        minutes=12,
        quick_minutes=1.5,
        picks=picks.pages("sqlite"),
    ),
    Benchmark(
        name="pages.postgres",
        module="bench_pages",
        full=("postgres", "--days", "365"),
        quick=None,
        minutes=12,
        picks=picks.pages("postgres"),
        needs_postgres=True,
    ),
    Benchmark(
        name="theft",
        module="bench_theft",
        quick=("--villages", "20"),
        minutes=6,
        picks=picks.THEFT,
    ),
    Benchmark(
        name="month",
        module="bench_month",
        full=("30", "1"),
        quick=None,
        minutes=3,
        picks=picks.MONTH,
    ),
    Benchmark(
        name="soak",
        module="soak",
        quick=("--hours", "1"),
        minutes=8,
        quick_minutes=0.7,
        picks=picks.SOAK,
    ),
    *(
        Benchmark(
            name=f"growth.{engine}",
            module="bench_growth",
            full=(engine, "--readings", "20000000", "100000000"),
            quick=(engine, "--readings", "600000", "--repeats", "1", "--messages", "30000"),
            minutes=minutes,
            quick_minutes=1.5,
            needs_postgres=engine == "postgres",
        )
        for engine, minutes in (("sqlite", 35), ("postgres", 60))
    ),
)


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
