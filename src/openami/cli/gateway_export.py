"""``openami gateway export``: the backlog on a stick, where no network leads to the head-end."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.moments import as_moment
from openami.cli.report import Exit, fail, print_json, say
from openami.clock import SystemClock
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.gateway.config import GatewayConfig
    from openami.sip.keys import Signer


def export_backlog(
    config: "GatewayConfig",
    out: Path,
    *,
    since: datetime | None,
    everything: bool,
    unsigned: bool,
    as_json: bool,
) -> None:
    """Write the file; end the command with a sentence where it cannot be."""
    from openami.gateway import export
    from openami.gateway.database import DatabaseError
    from openami.gateway.main import DATABASE_FILE
    from openami.sip.carried import Scope

    now = SystemClock().now()
    selection = export.Selection(
        config.feeder_id,
        config.gateway_id,
        Scope.ALL if everything else Scope.PENDING,
        since,
    )
    file = out / export.file_name(selection, now) if out.is_dir() else out
    signer = None if unsigned else _signer(config)
    try:
        header = export.export_backlog(
            config.data_dir / DATABASE_FILE, file, selection, signer=signer, now=now
        )
    except (DatabaseError, export.ExportError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    if as_json:
        print_json(
            {
                "file": str(file),
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
        click.echo(str(file))
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


since_option = click.option(
    "--since",
    metavar="WHEN",
    callback=as_moment,
    help="Only what was measured from here on: 7d, or 2026-06-22T14:30:00Z.",
)
