"""``openami doctor capacity``: how far this machine goes."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.capacity_rows import as_object, show
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.storage import fail_for_store

if TYPE_CHECKING:
    from openami.capacity.conclusion import Capacity

# Long enough for a few hundred commits of a slow disk, short enough to be run without thinking about it.
DEFAULT_SECONDS = 15.0


@click.command()
@store_option
@click.option(
    "--directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to measure: the SQLite file's own directory without it. With PostgreSQL, a directory on the "
    "server's disk, if that is on this machine.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 120),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="How long to measure.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def capacity(store: str, directory: Path | None, seconds: float, as_json: bool) -> None:
    """Measure how many meters this machine serves, and what it runs out of first.

    Some seconds of full work with the programs' own code: the disk's syncs, judging and storing of a village's
    messages, a gateway's outbox. The store of --store is not touched: its kind is what counts; a new file in the
    directory, or a new database on the same server, is made and is gone afterwards. Not beside a working head-end,
    which would feel it. Exit code 2: the place cannot be measured in; 3: the server cannot be reached.
    """
    from openami.capacity.measuring import PlaceError
    from openami.gateway.outbox import OutboxError
    from openami.headend.store import StoreError
    from openami.headend.store.open import file_of

    file = file_of(store)
    place = directory or (Path() if file is None else Path(file).parent)
    say(f"measuring for {seconds:g} s in {place.resolve()} …")
    try:
        measured = asyncio.run(_measured(store, place, seconds, server_disk=directory is not None))
    except (asyncio.CancelledError, KeyboardInterrupt):
        fail("ended before it was done; nothing is left behind", Exit.INTERRUPTED)
    except PlaceError as error:
        fail(str(error), Exit.USAGE, error.remedy)
    except StoreError as error:
        fail_for_store(error)
    except OutboxError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    if as_json:
        print_json(as_object(measured, place))
    else:
        show(measured, place)


async def _measured(url: str, place: Path, seconds: float, *, server_disk: bool) -> "Capacity":
    from openami.capacity.measuring import measure
    from openami.clock import SystemClock

    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, it tidies up as it does for Ctrl-C.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await measure(
        url,
        place,
        seconds=seconds,
        now=SystemClock().now(),
        server_disk=server_disk,
        tell=lambda what: say(f"  {what} …"),
    )
