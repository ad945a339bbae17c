"""``openami headend first-link``: the link that makes the first account."""

from pathlib import Path

import click

from openami.cli.command_rows import who_asks
from openami.cli.files import config_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.storage import with_store
from openami.clock import SystemClock
from openami.headend.accounts.credentials import FIRST_LINK_HOURS
from openami.headend.config import DEFAULT_STORE, ConfigError, HeadendConfig, read_config
from openami.headend.links import new_first_link
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore


@click.command("first-link")
@config_option("The head-end's; flags overrule it.")
@click.option("--store", metavar="URL", envvar="OPENAMI_STORE", help=f"[default: {DEFAULT_STORE}]")
@click.option("--url", metavar="URL", help="How people reach the console, where no file says it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def first_link(config_file: Path | None, store: str | None, url: str | None, as_json: bool) -> None:
    """Print a link that makes the first account: an engineer, whose password whoever opens it chooses.

    It opens once and within the hour; links printed before are void. There is no default password, ever. Exit code
    4 when there is an account already: an engineer makes the others.
    """
    try:
        config = HeadendConfig() if config_file is None else read_config(config_file)
        listening = config.listening()
    except ConfigError as error:
        fail(str(error), Exit.USAGE)

    async def run(opened: HeadEndStore) -> str:
        if await opened.users():
            fail(
                "there is an account already",
                Exit.REFUSED,
                "an engineer makes others; if none can sign in: openami user passwd NAME",
            )
        return await new_first_link(opened, who=who_asks(), now=SystemClock().now())

    path = with_store(store or config.store, run, Access.EDIT)
    base = url or ("" if listening is None else listening.url)
    link = base.rstrip("/") + path
    if as_json:
        print_json({"link": link, "hours": FIRST_LINK_HOURS})
        return
    click.echo(link)
    say(
        f"opens once, within {FIRST_LINK_HOURS} h"
        + ("" if base else "; put the console's address before it")
    )
