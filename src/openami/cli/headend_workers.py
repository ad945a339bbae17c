"""``openami headend workers`` and ``certify-slices``: head-ends that share the feeders, and which holds what."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openami.cli.headend_init import directory_option
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import Row
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.slices import REST, SLICES_DEFAULT, SLICES_MAX
from openami.headend.store import Access
from openami.headend.store.workers import SliceFeeder
from openami.headend.village import Village, VillageError
from openami.headend.worker_life import BEAT_INTERVAL_S, Roster, SliceState
from openami.headend.worker_settings import SESSION
from openami.keyfiles import KeyFileError
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.headend.store.commands import HeadEndStore

# Four beats: a worker that lives shows itself in it, and a person waits.
WATCHED_S: Final = 4 * BEAT_INTERVAL_S


@click.command()
@click.option(
    "--end",
    is_flag=True,
    help="Give all feeders back to a single head-end. No worker may run, and none may be started again.",
)
@store_option
@json_option
def workers(*, end: bool, store: str, as_json: bool) -> None:
    """Show the slices of the feeders, who holds each, in which term and since when.

    A worker that has died is still named until another one has noticed, a lease after its last beat.
    """
    if end:
        with_store(store, _end, Access.EDIT)
        return
    roster, feeders = with_store(store, _looked_at)
    rows = _rows(roster, feeders)
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        say("the feeders of this store are not shared: a single head-end takes everything")
        return
    print_table(
        ["slice", "holder", "term", "since", "last beat", "feeders"],
        [[str(cell) if cell is not None else "-" for cell in row.values()] for row in rows],
    )
    idle = [worker.name for worker in roster.workers if not roster.held_by(worker.id)]
    if idle:
        say(f"standing by: {', '.join(idle)}")


async def _looked_at(store: "HeadEndStore") -> tuple[Roster, Sequence[SliceFeeder]]:
    return await store.roster(), await store.slice_feeders()


def _rows(roster: Roster, feeders: Sequence[SliceFeeder]) -> list[Row]:
    workers = {worker.id: worker for worker in roster.workers}
    heard = Counter(each.number for each in feeders)
    rows: list[Row] = []
    for each in roster.slices:
        holder = None if each.state is SliceState.FREE else workers.get(each.holder or "")
        rows.append(
            {
                "slice": "rest" if each.number == REST else each.number,
                "holder": None if holder is None else holder.name,
                "term": each.term,
                "since": utc_text(each.since),
                "lastBeat": None if holder is None else utc_text(holder.beat_at),
                "feeders": None if each.number == REST else heard[each.number],
            }
        )
    return rows


async def _end(store: "HeadEndStore") -> None:
    before = await store.roster()
    await asyncio.sleep(WATCHED_S)
    after = await store.roster()
    beats = {worker.id: worker.beat for worker in before.workers}
    alive = [each.name for each in after.workers if beats.get(each.id) != each.beat]
    if alive:
        fail(
            f"{', '.join(alive)} works with this store",
            Exit.REFUSED,
            "stop every worker first",
        )
    await store.end_sharing()
    say(
        "a single head-end takes everything now; what waits in the slices' sessions at the broker "
        "it asks the gateways for, by number"
    )


@click.command("certify-slices")
@directory_option
@click.option(
    "--slices",
    type=click.IntRange(1, SLICES_MAX),
    default=SLICES_DEFAULT,
    show_default=True,
    help="Into how many the feeders are split: what stands in [workers].",
)
def certify_slices(directory: Path, slices: int) -> None:
    """Make a certificate for each slice, under whose name the broker keeps its session.

    They are written beside the head-end's own and renewed with it. What is there already stays.
    """
    village = Village(directory)
    try:
        names = village.certify_slices(slices, now=SystemClock().now())
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    for name in names:
        click.echo(village.transport_file(name))
    rights = " ".join(f"--hes {name}" for name in names)
    say(
        f"""what to do now:
 1. The broker:   openami broker-config mosquitto --acl {rights} > /etc/mosquitto/openami.acl
                  systemctl reload mosquitto
 2. Each worker:  these files, and in its headend.toml [mqtt] cert_file = ".../{SESSION}.pem"
                  and [workers] slices = {slices}"""
    )
