"""``openami headend retention``: which readings are kept no longer, and removing them."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openami.cli.command_rows import who_asks
from openami.cli.files import config_option
from openami.cli.logs import configure_logs
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import Row
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.config import ConfigError, read_config
from openami.headend.horizon import KEEP_MONTHS_MIN
from openami.headend.store import Access
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.headend.retention import Horizon
    from openami.headend.store.commands import HeadEndStore
    from openami.headend.store.retaining import Removed

# More months than a store of this century has; a clock that was wrong has left some of its own.
_MONTHS_MAX: Final = 1200


@click.command()
@config_option("The head-end's TOML file, whose [retention] says how many months stay.")
@click.option(
    "--keep-months",
    metavar="N",
    type=click.IntRange(min=KEEP_MONTHS_MIN),
    help="So many whole months before the current one, whatever the file says.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@store_option
@json_option
def retention(
    config_file: Path | None, keep_months: int | None, dry_run: bool, store: str, as_json: bool
) -> None:
    """Remove readings of months that are kept no longer; what is printed is what goes.

    The head-end does it by itself, within the hour, where [retention] is configured. Folded energy, each
    register's last value, events and findings stay. Works beside the running head-end; interrupted, it goes on when
    it is asked again. Exit code 1: energy of those months has still to be folded, and nothing went yet.
    """
    from openami.headend.retention import Retention

    configure_logs()
    months = keep_months or _configured(config_file)

    async def run(open_store: "HeadEndStore") -> "tuple[Horizon, list[Row], Removed, int]":
        work = Retention(open_store, clock=SystemClock(), keep_months=months, who=who_asks())
        horizon = await work.horizon()
        rows = [] if horizon.kept_since is None else await _going(open_store, horizon)
        gone = work.removed if dry_run else await work.remove()
        since = horizon.kept_since
        due = 0 if since is None else await open_store.unfolded_days(since.date())
        return horizon, rows, gone, due

    horizon, rows, gone, due = with_store(store, run, Access.READ if dry_run else Access.EDIT)
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table(
            ["MONTH", "READINGS", "TABLE", "BYTES"],
            [["" if cell is None else str(cell) for cell in row.values()] for row in rows],
        )
    if horizon.kept_since is None:
        say("all readings are kept: there are no more months with readings than are to stay")
        return
    would = "would be" if dry_run and horizon.moves_on else "are"
    say(f"readings {would} kept since {utc_text(horizon.kept_since)}")
    if due:
        say(f"{due} days of energy have to be folded first: the head-end does it within minutes")
    if rows and not gone and not dry_run:
        raise SystemExit(Exit.FAILED)


def _configured(config_file: Path | None) -> int:
    try:
        config = None if config_file is None else read_config(config_file)
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
    months = None if config is None else config.retention.readings_keep_months
    if months is None:
        fail(
            "nothing says how long readings are kept, so all of them are",
            Exit.USAGE,
            "give --keep-months N, or -c FILE with [retention] readings_keep_months",
        )
    return months


async def _going(store: "HeadEndStore", horizon: "Horizon") -> "list[Row]":
    """Return the months that go, the oldest first."""
    from openami.headend.store.months import buckets_of, month_name

    tables = {(each.first, each.last): each for each in await store.partitions()}
    rows: list[Row] = []
    for month in reversed(await store.newest_months(_MONTHS_MAX)):
        buckets = buckets_of(month)
        if horizon.last_bucket is None or buckets.start > horizon.last_bucket:
            break
        table = tables.get((buckets.start, buckets.stop - 1))
        rows.append(
            {
                "month": month_name(month),
                "readings": await store.readings_in(buckets.start, buckets.stop - 1),
                "table": None if table is None else table.table,
                "bytes": None if table is None else table.bytes,
            }
        )
    return rows
