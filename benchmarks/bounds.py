"""What is asked of figures: a bound for each that has one (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Bound:
    """At least or at most so much, in the figure's unit."""

    side: Literal["≥", "≤"]
    limit: float

    def is_met_by(self, value: float) -> bool:
        """Return whether a value keeps it."""
        return value >= self.limit if self.side == "≥" else value <= self.limit

    def missed_by(self, value: float) -> float:
        """Return by what share of the bound a value misses it, by how much one of 0; 0 when it does not."""
        return 0.0 if self.is_met_by(value) else abs(value - self.limit) / (self.limit or 1)

    def __str__(self) -> str:
        return f"{self.side} {self.limit:g}"


def _at_least(limit: float) -> Bound:
    return Bound("≥", limit)


def _at_most(limit: float) -> Bound:
    return Bound("≤", limit)


BOUNDS: Mapping[str, Bound] = {
    "decode.example": _at_least(400_000),
    "outbox.append.20": _at_least(5_000),
    "ingest.sqlite.rate": _at_least(25_000),
    "ingest.sqlite.cpu": _at_most(35),
    "ingest.postgres.rate": _at_least(12_000),
    "ingest.postgres.cpu": _at_most(35),
    "peers.mqtt_alone.cpu": _at_most(25),
    # Both store the raw envelope and acknowledge after the commit, mq-bridge in its faster setting.
    "peers.ratio.raw_postgres_to_mq_bridge": _at_least(1),
    # The 25,000 and 12,000 of above as shares of the 65,000 messages/s that a C subscriber took where they were
    # set: of a machine that is slower altogether they ask the same.
    "peers.ceiling.headend_sqlite": _at_least(0.38),
    "peers.ceiling.headend_postgres": _at_least(0.18),
    **{
        f"peers.{ours}.lost": _at_most(0)
        for ours in ("headend_sqlite", "headend_postgres", "raw_sqlite", "raw_postgres")
    },
    "gateway.cpu": _at_most(2),
    "gateway.rss": _at_most(60),
    "line.cycle": _at_most(15),
    "command.p95": _at_most(100),
    "sip.verify": _at_most(1),
    "sip.verify_two": _at_most(1),
    "sip.keyring": _at_most(50),
    "theft.precision": _at_least(0.9),
    "theft.false": _at_most(3),
    "judge.door": _at_least(1_000),
    # A thousand a second, from the first to the last acknowledgement: the last one is late by its own way.
    "door.paced.rate": _at_least(990),
    "world.message": _at_most(32),
    "world.day": _at_most(0.35),
    **{
        f"growth.{engine}.{size}.{name}": bound
        for engine, bytes_max in (("sqlite", 32), ("postgres", 100))
        for size in ("20M", "100M")
        for name, bound in (
            ("bytes", _at_most(bytes_max)),
            ("commit_ratio", _at_least(0.8)),
            ("ingest_ratio", _at_least(0.8)),
        )
    },
    **{
        f"growth.{engine}.20M.{name}": bound
        for engine in ("sqlite", "postgres")
        for name, bound in (
            ("latest", _at_most(5)),
            ("month_of_register", _at_most(20)),
            ("month_of_village", _at_most(300)),
        )
    },
    **{
        f"pages.{engine}.{page}": _at_most(300)
        for engine in ("sqlite", "postgres")
        for page in ("overview", "overview_quarters", "month", "completeness",
                     "latest", "meter_month", "meter_all", "chart_week", "chart_all", "meter_day")
    },
}  # fmt: skip
