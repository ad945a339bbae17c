"""``openami doctor months``: are old months closed and removed as the head-end's file says."""

from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.files import config_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock

if TYPE_CHECKING:
    from openami.headend.config import HeadendConfig
    from openami.headend.old_months import Facts
    from openami.headend.store.commands import HeadEndStore


@click.command()
@config_option(
    "The head-end's TOML file: it says where the store is, and what [closing] and [retention] are.",
    required=True,
)
@json_option
def months(config_file: Path, as_json: bool) -> None:
    """Say how old months stand: closed up to when, what is due or overdue, what is kept, and what to do.

    Nothing is changed; it works beside the running head-end. Exit code 1: something is overdue; 2: the file is
    wrong; 3: the store cannot be reached.
    """
    from openami.headend.config import ConfigError, read_config
    from openami.headend.old_months import State, findings

    try:
        config = read_config(config_file)
        after_days = config.close_after_days()
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
    found = findings(with_store(config.store, lambda store: facts_of(store, config, after_days)))
    if as_json:
        for each in found:
            print_json(
                {"name": each.name, "state": each.state, "says": each.says, "remedy": each.remedy}
            )
    else:
        print_table(["WHAT", "STATE", ""], [[each.name, each.state, each.says] for each in found])
        for each in found:
            if each.remedy:
                say(f"{each.name}: {each.remedy}")
    if any(each.state is State.OVERDUE for each in found):
        raise SystemExit(Exit.FAILED)


async def facts_of(
    store: "HeadEndStore", config: "HeadendConfig", after_days: int | None
) -> "Facts":
    """Return what is known of a store's old months. Raises StoreError."""
    from openami.headend.old_months import OVERDUE_AFTER, Facts
    from openami.headend.retention import Retention
    from openami.headend.store.months import FIRST_BUCKET

    clock = SystemClock()
    now = clock.now().astimezone(UTC)
    keep_months = config.retention.readings_keep_months
    horizon = keep_months and await Retention(store, clock=clock, keep_months=keep_months).horizon()
    since, last = (horizon.kept_since, horizon.last_bucket) if horizon else (None, None)
    close_before = None if after_days is None else now - timedelta(days=after_days)
    return Facts(
        now=now,
        after_days=after_days,
        totals=await store.closed_totals(),
        waiting=await store.closing_waits(),
        open_due=await store.months_to_close(close_before) if close_before else (),
        open_overdue=await store.months_to_close(close_before - OVERDUE_AFTER)
        if close_before
        else (),
        keep_months=keep_months,
        kept_since=await store.kept_since(),
        would_keep_since=since,
        to_remove=0 if last is None else await store.readings_in(FIRST_BUCKET, last),
        unfolded_days=0 if since is None else await store.unfolded_days(since.date()),
    )
