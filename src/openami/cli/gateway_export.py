"""``openami gateway export``: the backlog on a stick, where no network leads to the head-end."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.files import A_PATH
from openami.cli.gateway_config import gateway_config_option, loaded
from openami.cli.moments import as_moment
from openami.cli.report import Exit, fail, print_json, say
from openami.clock import SystemClock
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.gateway.config import GatewayConfig
    from openami.sip.keys import Signer


@click.command()
@gateway_config_option
@click.argument("out", metavar="OUT", type=A_PATH)
@click.option(
    "--since",
    metavar="WHEN",
    callback=as_moment,
    help="Only what was measured from here on: 7d, or 2026-06-22T14:30:00Z.",
)
@click.option("--all", "everything", is_flag=True, help="Also what is kept after sending.")
@click.option("--unsigned", is_flag=True, help="Without a signature, even if there is a key.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def export(
    file: Path,
    out: Path,
    since: datetime | None,
    everything: bool,
    unsigned: bool,
    as_json: bool,
) -> None:
    """Write the backlog to OUT, a new file or a folder, to be carried to the head-end by hand.

    One file, signed by this gateway; works while it runs and when it does not. Nothing is marked as sent: when
    the network is back all of it is published too, and the head-end ignores what it has.
    """
    from openami.gateway.database import DatabaseError
    from openami.gateway.export import ExportError, Selection, export_backlog, file_name
    from openami.sip.carried import Scope

    config = loaded(file)
    now = SystemClock().now()
    selection = Selection(
        config.feeder_id,
        config.gateway_id,
        Scope.ALL if everything else Scope.PENDING,
        since,
    )
    target = out / file_name(selection, now) if out.is_dir() else out
    signer = None if unsigned else _signer(config)
    try:
        header = export_backlog(config.database, target, selection, signer=signer, now=now)
    except (DatabaseError, ExportError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    if as_json:
        print_json(
            {
                "file": str(target),
                "feederId": header.feeder_id,
                "gatewayId": header.gateway_id,
                "madeAt": utc_text(header.made_at),
                "scope": str(header.scope),
                "messages": header.messages,
                "firstSeq": header.first_seq,
                "lastSeq": header.last_seq,
                "signedBy": None if signer is None else signer.kid,
            }
        )
    else:
        click.echo(str(target))
    say(
        f"{header.messages} messages, {'signed' if signer else 'NOT SIGNED'}; nothing is marked as sent: "
        "at the head-end, `openami headend import` it"
    )


def _signer(config: "GatewayConfig") -> "Signer":
    from openami.keyfiles import KeyFileError, load_signer

    if not config.commands.key_file:
        fail(
            f"{config.file} names no key to sign with",
            Exit.USAGE,
            "name key_file and roots_file in the table [commands], or say --unsigned: "
            "then the head-end has to take it on its operator's word",
        )
    try:
        return load_signer(Path(config.commands.key_file))
    except KeyFileError as error:
        fail(str(error), Exit.USAGE, error.remedy)
