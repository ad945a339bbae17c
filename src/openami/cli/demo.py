"""``openami demo``: a village on this machine, from the meters to the operator's store."""

import asyncio
import re
import shutil
import signal
import sys
from typing import Any, Final

import click

from openami.cli.report import Exit, fail, print_json, say
from openami.clock import SystemClock
from openami.end_signals import END_SIGNALS, told_to_end
from openami.headend.store import StoreError
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings
from openami.simulator.audit import LOST_NAMED_MAX, Account
from openami.simulator.demo import run_demo
from openami.simulator.mixed_demo import run_mixed_demo
from openami.simulator.mixed_plan import MIXED_METERS_MAX, MIXED_METERS_MIN
from openami.simulator.mixed_summary import Summary
from openami.simulator.plan import METERS_MAX, METERS_MIN
from openami.simulator.programs import PartFailed
from openami.simulator.scenario import DEMO_S_MIN
from openami.simulator.stage import Audience, DemoSettings
from openami.simulator.view import Picture, summary, table

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_duration = re.compile(r"(\d+(?:\.\d+)?)([smh]?)", re.ASCII).fullmatch
# Where there is no terminal the picture is a line in a log, and fewer of them are read.
_LINE_EVERY_PICTURES: Final = 5
# A person looks around in the console; where nobody is at a terminal, one telling of the story is all there is.
_FOR_A_PERSON: Final = "15m"
_FOR_A_LOG: Final = "60s"
# A terminal that does not say how large it is.
_TERMINAL_FALLBACK: Final = (100, 40)


class _Duration(click.ParamType[float | None]):
    """``90``, ``90s``, ``10m``, ``2h`` or ``forever``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value == "forever":
            return None
        found = _duration(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write 90s, 10m, 2h or forever", param, ctx)
        seconds = float(found[1]) * _UNITS[found[2]]
        if seconds < DEMO_S_MIN:
            self.fail(f"a demo lasts at least {DEMO_S_MIN:.0f} s", param, ctx)
        return seconds


@click.command()
@click.option(
    "--meters",
    type=click.IntRange(METERS_MIN, METERS_MAX),
    default=20,
    show_default=True,
    help="How many, the feeder's own among them.",
)
@click.option(
    "--for",
    "duration_s",
    type=_Duration(),
    default=lambda: _FOR_A_PERSON if sys.stdout.isatty() else _FOR_A_LOG,
    show_default=f"{_FOR_A_PERSON} on a terminal, else {_FOR_A_LOG}",
    help="How long: 90s, 10m, 2h, or forever, which is until Ctrl-C.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Which village.")
@click.option("--broker", "url", metavar="URL", help="A running broker, instead of one of our own.")
@click.option("--ca-file", metavar="FILE", help="The authority that signed the broker's name.")
@click.option("--cert-file", metavar="FILE", help="Our certificate, where the broker asks for one.")
@click.option("--key-file", metavar="FILE", help="Its key.")
@click.option("--username", metavar="NAME", help="Our name to a broker that asks for a password.")
@click.option("--password-file", metavar="FILE", help="A file with the password and nothing else.")
@click.option("--mqtt-version", "protocol", type=click.Choice(["5", "3.1.1"]), default="5")
@click.option(
    "--store", "store_url", metavar="URL", help="An existing store, to keep what was read."
)
@click.option(
    "--mixed",
    is_flag=True,
    help="Meters of several makes: Modbus, SunSpec, DLMS, IEC 62056-21, and what goes wrong with them.",
)
@click.option("--json", "as_json", is_flag=True, help="End with the account as one JSON object.")
def demo(
    meters: int,
    duration_s: float | None,
    seed: int,
    url: str | None,
    store_url: str | None,
    mixed: bool,
    as_json: bool,
    **broker: str | None,
) -> None:
    """Run a village on this machine: meters, gateway, broker, head-end.

    The meters are Modbus servers, the gateway and the head-end the real programs; all of it listens on
    loopback only and is gone afterwards. It prints a link: whoever opens it sees the village in the
    operator's console, and may switch a house off and on. On the way a meter dies, a credit runs out and
    the head-end is killed, once. At the end the gateway's account is compared with the head-end's, reading
    by reading.

    With --mixed the meters are of several makes on lines of several kinds, one of them dead, one at a wrong
    address, one with a slow clock; a cover is opened, a phase sags, a line is cut and its gap is closed, relays
    are ordered. It ends when all of that was seen in the operator's store, or --for later, with a summary.

    Exit code 1 when a reading was lost, a part failed or something of a mixed village was not seen, 3 when the
    broker cannot be reached, 130 when interrupted.
    """
    settings = DemoSettings(
        meters=meters,
        seed=seed,
        duration_s=duration_s,
        broker=_broker(url, broker),
        store_url=store_url,
    )
    if mixed and not MIXED_METERS_MIN <= meters <= MIXED_METERS_MAX:
        fail(f"a mixed village has {MIXED_METERS_MIN} to {MIXED_METERS_MAX} meters", Exit.USAGE)
    live = sys.stdout.isatty() and not as_json
    try:
        account, summary, interrupted = asyncio.run(_run(settings, mixed=mixed, live=live))
    except PartFailed as failed:
        fail(str(failed), Exit.FAILED)
    except (TransportError, StoreError) as failed:
        fail(str(failed), Exit.CANNOT_CONNECT, failed.remedy)
    if account is not None:
        _report(account, summary, meters, as_json=as_json)
    if interrupted:
        sys.exit(Exit.INTERRUPTED)
    if account is None or account.lost or not (summary is None or summary.good):
        sys.exit(Exit.FAILED)


def _broker(url: str | None, options: dict[str, Any]) -> BrokerSettings | None:
    if url is None:
        return None
    try:
        return BrokerSettings.from_url(url, **options)
    except ValueError as error:
        fail(str(error), Exit.USAGE)


async def _run(
    settings: DemoSettings, *, mixed: bool, live: bool
) -> tuple[Account | None, Summary | None, bool]:
    """Run the demo; also return the summary of a mixed one, and whether somebody stopped it."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    screen = _Screen() if live else _Log()
    audience = Audience(SystemClock(), screen.show, screen.tell, stop, hurry)

    def told() -> None:
        """The first signal ends the demo in good order, the second does not wait for what is on its way."""
        (hurry if stop.is_set() else stop).set()

    with told_to_end(told, (*END_SIGNALS, signal.SIGHUP)):
        if mixed:
            account, summary = await run_mixed_demo(settings, audience)
        else:
            account, summary = await run_demo(settings, audience), None
    return account, summary, stop.is_set()


class _Log:
    """Lines on stderr."""

    def __init__(self) -> None:
        self._pictures = 0

    def show(self, picture: Picture) -> None:
        if self._pictures % _LINE_EVERY_PICTURES == 0:
            say(summary(picture))
        self._pictures += 1

    def tell(self, text: str) -> None:
        say(text)


class _Screen:
    """One table, drawn over and over from the terminal's upper left corner."""

    def __init__(self) -> None:
        self._drawn = False

    def show(self, picture: Picture) -> None:
        width, height = shutil.get_terminal_size(_TERMINAL_FALLBACK)
        lines = (line[: width - 1] for line in table(picture, lines_max=height - 1))
        if not self._drawn:
            click.echo("\x1b[2J", nl=False)
            self._drawn = True
        click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", nl=False)

    def tell(self, text: str) -> None:
        if not self._drawn:  # afterwards the table has it
            say(text)


def _report(account: Account, summary: Summary | None, meters: int, *, as_json: bool) -> None:
    for identity in account.lost[:LOST_NAMED_MAX]:
        say(f"lost: {identity.meter_serial} {identity.obis} of {identity.ts:%H:%M:%S}")
    if summary is not None and not as_json:
        for line in summary.lines():
            click.echo(line)
    if as_json:
        print_json(
            {
                "meters": meters,
                "published": account.published,
                "stored": account.stored,
                "duplicates": account.duplicates,
                "rejected": account.rejected,
                "lost": len(account.lost),
                **({} if summary is None else summary.document()),
            }
        )
        return
    click.echo(
        f"{account.published} readings published, {account.stored} stored, "
        f"{len(account.lost)} lost ({account.duplicates} came twice, {account.rejected} rejected)"
    )
    say(
        "longer: openami demo --for 10m; to keep the readings: --store sqlite:///village.db, then "
        "openami meter list --store sqlite:///village.db"
    )
