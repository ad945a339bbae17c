"""What was measured of a machine, for a person and for a program."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from openami.cli.report import print_table

if TYPE_CHECKING:
    from openami.capacity.conclusion import Capacity
    from openami.capacity.probes import Latency
    from openami.capacity.reckoning import Reach

# The benchmarks' village: a year of it is what everybody can compare.
_VILLAGE: Final = 500
_ENGINES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_CHANGES: Final = {
    "intake": "a faster core, or a faster disk where little of the time is computing; PostgreSQL on a machine of "
    "its own; a broker and a head-end for each group of villages",
    "commits": "a disk with a protected cache, or one nobody else writes to; no memory card, no network disk",
    "room": "a larger disk, a longer interval, fewer registers; SQLite takes a third of PostgreSQL's room",
}
_EVERY: Final = {900: "15 min", 60: "60 s"}


def as_object(measured: "Capacity", directory: Path) -> dict[str, Any]:
    """Return everything as one object; times in seconds, rates a second."""
    met = measured.conditions
    return {
        "engine": measured.engine,
        "directory": str(directory.resolve()),
        "filesystem": met.filesystem,
        "sync": _latency(measured.figures.synced),
        "commit": _latency(measured.figures.committed),
        "judge_per_s": {str(n): round(rate.per_s) for n, rate in measured.figures.judged.items()},
        "intake": {
            str(n): {"per_s": round(rate.per_s), "cpu_us": round(rate.cpu_s * 1e6, 1)}
            for n, rate in measured.figures.taken_in.items()
        },
        "outbox": {
            "readings_per_s": round(measured.figures.appended.per_s),
            **_latency(measured.figures.cycle),
        },
        "free_bytes": measured.room and measured.room.free_bytes,
        "bytes_per_reading": round(measured.bytes_per_reading, 1),
        "bytes_from_readings": measured.figures.readings,
        "cores": met.cores,
        "load_before": met.load_before,
        "others_share": met.others_share,
        "steal_share": met.steal_share,
        "reach": [
            {
                "interval_s": one.load.interval_s,
                "registers": one.load.registers,
                "meters": one.meters,
                "first_limit": str(one.first_limit),
                "by": {str(limit): meters for limit, meters in one.by.items()},
                "days_kept": _days(measured, one),
            }
            for one in measured.reaches
        ],
        "doubts": [{"code": str(doubt.code), "text": doubt.text} for doubt in measured.doubts],
    }


def show(measured: "Capacity", directory: Path) -> None:
    """Print it for a person, on stdout."""
    from openami.capacity.reckoning import KEEP_DAYS, MARGIN, ROOM_SHARE

    kind = measured.conditions.filesystem or "unknown"
    click.echo(f"{_ENGINES[measured.engine]}; measured in {directory.resolve()} ({kind})\n")
    print_table(["MEASURED", "", "WHAT IT MEANS"], _figures(measured))
    click.echo(
        f"\nMeters served with {MARGIN:.0%} of what was measured (the rest: MQTT, broker, catching up, pages)\n"
        f"and {ROOM_SHARE:.0%} of the free room for {KEEP_DAYS} days of readings; "
        f"DAYS: for how long {_VILLAGE} meters can be kept\n"
    )
    print_table(
        ["EVERY", "REGISTERS", "METERS", "FIRST LIMIT", "INTAKE", "COMMITS", "ROOM", "DAYS"],
        [_reach_row(measured, one) for one in measured.reaches],
    )
    click.echo()
    for limit in dict.fromkeys(str(one.first_limit) for one in measured.reaches):
        click.echo(f"To go beyond {limit}: {_CHANGES[limit]}.")
    if measured.room is None:
        click.echo(
            "The server's disk cannot be seen from here: --directory names a place on it, if it is this machine's."
        )
    click.echo(
        "Arithmetic beyond 500 meters, which is what was tested; the console's pages are not in it (docs/scale.md)."
    )
    for doubt in measured.doubts:
        click.echo(f"! {doubt.code}: {doubt.text}")


def _figures(measured: "Capacity") -> list[list[str]]:
    rows = [
        [
            "sync of the disk",
            _ms(measured.figures.synced),
            "a page safe on the disk: half, and 99 of 100",
        ],
        [
            "commit of the store",
            _ms(measured.figures.committed),
            "one message durable, then acknowledged",
        ],
        *(
            [
                f"judge, {n} registers",
                f"{rate.per_s:,.0f}/s",
                "messages decoded and judged by one core",
            ]
            for n, rate in measured.figures.judged.items()
        ),
        *(
            [
                f"intake, {n} registers",
                f"{rate.per_s:,.0f}/s",
                f"judged and durably stored; {rate.per_s * rate.cpu_s:.0%} of the time computing",
            ]
            for n, rate in measured.figures.taken_in.items()
        ),
        [
            "outbox",
            f"{measured.figures.appended.per_s:,.0f}/s",
            "readings durable in a gateway on this machine",
        ],
        ["outbox, one cycle", _ms(measured.figures.cycle), "20 meters' readings appended"],
        ["a reading", f"{measured.bytes_per_reading:.1f} B", "in the store, with its index"],
    ]
    if measured.room is not None:
        rows.append(["free", f"{measured.room.free_bytes / 1e9:,.1f} GB", "on the disk"])
    return rows


def _reach_row(measured: "Capacity", one: "Reach") -> list[str]:
    by = {str(limit): f"{meters:,}" for limit, meters in one.by.items()}
    days = _days(measured, one)
    return [
        _EVERY[one.load.interval_s],
        str(one.load.registers),
        f"{one.meters:,}",
        str(one.first_limit),
        *(by.get(limit, "unknown") for limit in ("intake", "commits", "room")),
        "unknown" if days is None else f"{days[str(_VILLAGE)]:,}",
    ]


def _days(measured: "Capacity", one: "Reach") -> dict[str, int] | None:
    """Return for how many days the readings of so many meters can be kept, by meters."""
    room = measured.room
    if room is None:
        return None
    return {str(meters): int(room.days(meters, one.load)) for meters in (_VILLAGE, 5_000, 50_000)}


def _latency(latency: "Latency") -> dict[str, Any]:
    return {"p50_s": latency.p50_s, "p99_s": latency.p99_s, "samples": latency.samples}


def _ms(latency: "Latency") -> str:
    return f"{latency.p50_s * 1e3:.2f}, {latency.p99_s * 1e3:.2f} ms"
