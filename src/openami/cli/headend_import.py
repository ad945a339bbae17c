"""``openami headend import``: a gateway's backlog that was carried here by hand."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.files import A_FILE, A_PATH, config_option
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import Row
from openami.cli.storage import catalogue_of, json_option, registers_option, with_store
from openami.clock import SystemClock
from openami.headend.config import ConfigError, read_config
from openami.headend.store import Access

if TYPE_CHECKING:
    from openami.headend.carried import Ledger, Proven
    from openami.headend.store.commands import HeadEndStore
    from openami.sip.keyring import Roots

# A line for a person every so many messages: some seconds of work.
_TOLD_EVERY = 50_000
# A file that is not whole is a failure of the copy; one that is not the gateway's is refused.
_REFUSED = frozenset({"FOREIGN", "UNSIGNED", "NOT_BELIEVED"})


@click.command("import")
@click.argument("file", metavar="FILE", type=A_FILE)
@config_option("The head-end's TOML file, which names the pinned roots.")
@click.option(
    "--roots",
    "roots_file",
    metavar="FILE",
    type=A_PATH,
    help="The pinned roots, if no configuration names them.",
)
@click.option("--unsigned", is_flag=True, help="Take a file without a signature on your word.")
@click.option("--dry-run", is_flag=True, help="Prove and judge it; store nothing.")
@store_option
@registers_option
@json_option
def import_backlog(
    file: Path,
    config_file: Path | None,
    roots_file: Path | None,
    unsigned: bool,
    dry_run: bool,
    store: str,
    registers: str | None,
    as_json: bool,
) -> None:
    """Let in what `openami gateway export` wrote: proven to its last line, then judged as if it had been published.

    Works beside a running head-end. Importing again changes nothing, and finishes an import that was interrupted.
    Exit code 1: the file is not whole; 4: it is not proven to be that gateway's. Nothing of it is stored then.
    """
    from openami.headend import carried
    from openami.sip.carried import CarriedError, check_signer

    roots = _roots(config_file, roots_file)
    catalogue = catalogue_of(registers)

    async def run(open_store: "HeadEndStore") -> "tuple[Proven, Ledger]":
        proven = carried.prove(file)
        found = (
            None if roots is None else await carried.keyring_for(open_store, proven.header, roots)
        )
        if proven.signed or not unsigned:
            check_signer(proven.header, proven.seal, None if found is None else found.keyring)
        ledger = await carried.let_in(
            file,
            proven,
            open_store,
            found=found,
            catalogue=catalogue,
            clock=SystemClock(),
            dry_run=dry_run,
            on_batch=lambda read: _tell(read, proven.header.messages),
        )
        return proven, ledger

    if roots is None and not unsigned:
        fail(
            "no roots are named to judge the signature by",
            Exit.USAGE,
            "give the head-end's --config with [signing], or --roots",
        )
    try:
        proven, ledger = with_store(store, run, Access.READ if dry_run else Access.EDIT)
    except CarriedError as error:
        code = Exit.REFUSED if error.fault in _REFUSED else Exit.FAILED
        fail(f"{file}: {error.fault}: {error}", code, error.remedy)
    except OSError as error:
        fail(f"{file}: {error.strerror}", Exit.FAILED, "copy it to this machine first")
    _print(_row(proven, ledger, dry_run=dry_run), as_json=as_json)


def _roots(config_file: Path | None, roots_file: Path | None) -> "Roots | None":
    from openami.keyfiles import KeyFileError, load_roots

    try:
        if roots_file is None and config_file is not None:
            signing = read_config(config_file).signing
            roots_file = None if signing is None else Path(signing.roots_file)
        return None if roots_file is None else load_roots(roots_file)
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
    except KeyFileError as error:
        fail(str(error), Exit.USAGE, error.remedy)


def _tell(read: int, messages: int) -> None:
    if read % _TOLD_EVERY == 0:
        say(f"{read} of {messages} messages")


def _row(proven: "Proven", ledger: "Ledger", *, dry_run: bool) -> Row:
    header, tally = proven.header, ledger.tally
    return {
        "feederId": header.feeder_id,
        "gatewayId": header.gateway_id,
        "signed": proven.signed,
        "dryRun": dry_run,
        "messages": ledger.read,
        "rejectedMessages": tally.rejected_messages,
        "rejectedRegisters": tally.rejected_items,
        "stored": None if dry_run else tally.stored,
        "duplicates": None if dry_run else tally.duplicates,
        "conflicts": None if dry_run else tally.conflicts,
        "events": None if dry_run else tally.events,
        "reports": None if dry_run else ledger.reports,
        "reportsNotBelieved": None if dry_run else ledger.refused_reports,
    }


def _print(row: Row, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    told = [[name, "-" if value is None else str(value)] for name, value in row.items()]
    print_table(["", ""], told)
    if row["rejectedMessages"]:
        say("what was rejected is kept: `openami reject list`")
