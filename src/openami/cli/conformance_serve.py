"""``openami conformance serve``: broker, authority and judge in one, with a live checklist."""

import asyncio
import contextlib
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from openami.cli.conformance_reporting import Reporting, ReportOptions, report_options, reporting
from openami.cli.durations import as_duration
from openami.cli.files import A_FILE, A_PATH
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.storage import catalogue_of, registers_option
from openami.end_signals import told_to_end

if TYPE_CHECKING:
    from openami.conformance.checklist import Checklist
    from openami.conformance.house import House, HouseSettings
    from openami.conformance.judgement import Judgement

# The page and the terminal show the same; twice a second is as often as a person sees.
_LOOK_S = 0.5
# When nothing more can be begun for so long, whatever still waits will not come by itself.
_IDLE_S_MAX = 60.0
# What a person types, and the button of the page it stands for.
_KEYS: Final = {"": "done", "s": "skip", "y": "yes", "n": "no"}
KIT_KEY_FILE: Final = "kit.key"


@click.command()
@click.option("--headend", is_flag=True, help="Judge a head-end: the kit plays a gateway for it.")
@click.option(
    "--host",
    metavar="NAME",
    help="How the one under test calls this machine.  [default: its address on the network]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8883, show_default=True, help="MQTT over TLS."
)
@click.option(
    "--plain-port",
    type=click.IntRange(0, 65535),
    default=1883,
    show_default=True,
    help="Where a client that comes without TLS is told so.",
)
@click.option(
    "--page",
    metavar="HOST:PORT",
    default="127.0.0.1:8080",
    show_default=True,
    help="Where the checklist is a page; empty for none.",
)
@click.option(
    "--directory",
    metavar="DIR",
    type=A_PATH,
    default="openami-conformance",
    show_default=True,
    help="Certificates, keys and the report; the same next time.",
)
@click.option(
    "--feeder", metavar="ID", default="feeder-kit", show_default=True, help="The gateway's feeder."
)
@click.option(
    "--gateway",
    metavar="ID",
    default="gateway-kit",
    show_default=True,
    help="The gateway's own id.",
)
@click.option(
    "--csr",
    metavar="FILE",
    type=A_FILE,
    help="Sign this certificate request; without it the kit makes the key.",
)
@click.option(
    "--enrol",
    metavar="FILE",
    type=A_FILE,
    help="Enrol a gateway that keeps our sessions: its request of `openami gateway enroll`.",
)
@click.option("--hook", metavar="PROGRAM", help="A control hook that does what a person would.")
@click.option(
    "--outage",
    "outage_s",
    type=click.FloatRange(min=1, max=2700),
    metavar="SECONDS",
    help="How long the network is taken away.  [default: three and a half intervals]",
)
@click.option(
    "--skip", "skipped", metavar="ACT", multiple=True, help="Leave an act out; repeatable."
)
@click.option("--vendor", metavar="TEXT", default="", help="For the report.")
@click.option("--model", metavar="TEXT", default="", help="For the report.")
@click.option("--firmware", metavar="TEXT", default="", help="For the report.")
@click.option("--once", is_flag=True, help="End by itself when nothing more can be exercised.")
@click.option(
    "--for",
    "lasting",
    metavar="DURATION",
    callback=as_duration,
    help="End after so long (30s, 5m, 2h); otherwise Ctrl-C ends it.",
)
@registers_option
@report_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each change.")
def serve(
    headend: bool,
    page: str,
    once: bool,
    lasting: timedelta | None,
    as_json: bool,
    reports: ReportOptions,
    **options: Any,
) -> None:
    """Judge a gateway, or a head-end, that connects to this machine.

    Prints what to configure, then shows every requirement as it is kept or broken. Ctrl-C ends it and writes the
    report, into DIR if --reports says nothing.

    Exit code 0: conforms; 1: it does not, or not all of the core was seen.
    """
    from openami.clock import SystemClock
    from openami.conformance.hook import HookFailed
    from openami.conformance.house import HouseError
    from openami.keyfiles import KeyFileError
    from openami.mqtt.port import TransportError
    from openami.pki.enrolment import EnrolmentError

    settings = _settings(headend=headend, **options)
    listener = _page_listener(page)
    reports = replace(
        reports,
        folder=reports.folder or settings.directory,
        key=reports.key or settings.directory / KIT_KEY_FILE,
    )
    run = _Run(settings, listener, reports, once=once, lasting=lasting, as_json=as_json)
    try:
        with listener or contextlib.nullcontext():
            judgement = asyncio.run(run.until_over(SystemClock()))
    except (HouseError, KeyFileError) as error:
        fail(str(error), Exit.USAGE, error.remedy)
    except (EnrolmentError, HookFailed) as error:
        fail(str(error), Exit.USAGE)
    except TransportError as error:
        fail(str(error), Exit.CANNOT_CONNECT, error.remedy)
    except ExceptionGroup as several:  # of the kit's parts more than one may notice it
        lost, others = several.split(TransportError)
        if lost is None or others is not None:
            raise
        fail("the kit's own broker has ended", Exit.FAILED, "start the kit again")
    sys.exit(Exit.DONE if judgement.conforms else Exit.FAILED)


def _settings(
    *,
    headend: bool,
    host: str | None,
    port: int,
    plain_port: int,
    directory: Path,
    feeder: str,
    gateway: str,
    csr: Path | None,
    enrol: Path | None,
    hook: str | None,
    outage_s: float | None,
    skipped: tuple[str, ...],
    vendor: str,
    model: str,
    firmware: str,
    registers: str | None,
) -> "HouseSettings":
    from openami.conformance.acts import ACTS
    from openami.conformance.hook import Hook
    from openami.conformance.house import HouseSettings
    from openami.pki.names import BadName, GatewayName

    known = {row.act.value for row in ACTS}
    for act in skipped:
        if act not in known:
            fail(f"--skip {act}: no such act", Exit.USAGE, f"there are {', '.join(sorted(known))}")
    try:
        name = GatewayName.parse(f"{feeder}/{gateway}")
    except BadName as error:
        fail(str(error), Exit.USAGE, "see --feeder and --gateway")
    return HouseSettings(
        kind="headend" if headend else "gateway",
        host=host,
        port=port,
        plain_port=plain_port,
        directory=directory,
        name=name,
        request=None if csr is None else csr.read_bytes(),
        enrolment=None if enrol is None else enrol.read_bytes(),
        hook=None if hook is None else Hook(shlex.split(hook)),
        outage_s=outage_s,
        skipped=frozenset(skipped),
        catalogue=catalogue_of(registers),
        vendor=vendor,
        model=model,
        firmware=firmware,
    )


def _page_listener(address: str) -> socket.socket | None:
    if not address:
        return None
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        fail(f"--page {address}: HOST:PORT is asked for", Exit.USAGE)
    try:
        return socket.create_server((host.strip("[]"), int(port)))
    except OSError as error:
        fail(
            f"cannot show the page on {address}: {error.strerror}",
            Exit.USAGE,
            "name another address with --page, or none: --page ''",
        )


@dataclass(slots=True)
class _Run:
    """One run, from the first line to the report."""

    settings: "HouseSettings"
    listener: socket.socket | None
    reports: ReportOptions
    once: bool
    lasting: timedelta | None
    as_json: bool

    async def until_over(self, clock: Any) -> "Judgement":
        """Judge until told to end, or nothing is left to do; return the judgement, its reports written."""
        from openami.conformance.house import open_house
        from openami.keyfiles import ensure_private_directory

        ensure_private_directory(self.settings.directory)
        stop = asyncio.Event()
        began_at = clock.now()
        with told_to_end(stop.set), self._reporting(began_at) as kept:
            async with open_house(
                self.settings, clock, began_at=began_at, witness=kept.see
            ) as house:
                self._introduce(house)
                async with _running(house.run(), "house"), self._served(house), _typed(house):
                    await self._show_until_over(house, stop)
                judgement = house.judgement()
            written = kept.write(judgement)
        assert written is not None, "serve always writes its report"
        self._conclude(judgement, written.paths["json"])
        return judgement

    def _reporting(self, began_at: datetime) -> AbstractContextManager[Reporting]:
        settings = self.settings
        return reporting(
            self.reports,
            settings.kind,
            began_at,
            catalogue=settings.catalogue,
            vendor=settings.vendor,
            model=settings.model,
            firmware=settings.firmware,
        )

    def _introduce(self, house: "House") -> None:
        if self.as_json:
            place = house.credentials
            print_json(
                {
                    "event": "ready",
                    "host": house.host,
                    "port": house.port,
                    "plainPort": house.plain_port,
                    "caFile": str(place.ca_file),
                    "certFile": str(place.cert_file),
                    "keyFile": str(place.key_file) if place.key_file.exists() else None,
                    "page": self._page_url(),
                }
            )
            return
        for line in self._instructions(house):
            say(line)

    def _instructions(self, house: "House") -> list[str]:
        from openami.conformance.house import instructions

        page = [] if self.listener is None else [f"checklist       {self._page_url()}"]
        return [*instructions(house), *page, "Ctrl-C ends it and writes the report.", ""]

    def _page_url(self) -> str | None:
        if self.listener is None:
            return None
        host, port = self.listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    @contextlib.asynccontextmanager
    async def _served(self, house: "House") -> AsyncIterator[None]:
        if self.listener is None:
            yield
            return
        from openami.conformance.web import build_app
        from openami.conformance.web import serve as serve_page

        app = build_app(house.checklist, house.performance.buttons)
        async with _running(serve_page(app, self.listener), "page"):
            yield

    async def _show_until_over(self, house: "House", stop: asyncio.Event) -> None:
        from openami.conformance.checklist import changes, sentence

        redraws = sys.stdout.isatty() and not self.as_json
        before: Checklist | None = None
        began, lasting = house.clock.boottime(), self.lasting
        while True:
            now = house.checklist()
            for event in changes(before, now):
                if self.as_json:
                    print_json(event)
                elif not redraws:
                    click.echo(sentence(event))
            if redraws:
                _redraw(now, self._instructions(house) if now.waits_for else [])
            before = now
            if stop.is_set() or (self.once and house.is_over(_IDLE_S_MAX)):
                return
            if lasting and house.clock.boottime() >= began + lasting.total_seconds():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await stop.wait()

    def _conclude(self, judgement: "Judgement", file: Path) -> None:
        from openami.conformance.summary import summary

        if self.as_json:
            print_json({"event": "end", "conforms": judgement.conforms, "report": str(file)})
            return
        for line in summary(judgement):
            click.echo(line)


def _redraw(now: "Checklist", above: list[str]) -> None:
    import shutil

    from openami.conformance.checklist import as_lines

    size = shutil.get_terminal_size()
    height = max(size.lines - 1 - len(above), 1)
    lines = [*above, *as_lines(now, width=size.columns, height=height)]
    # Home, each line and the rest of what stood there, and nothing below.
    click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", nl=False)


@contextlib.asynccontextmanager
async def _running(work: Any, name: str) -> AsyncIterator[None]:
    """Run something beside; end it with the context, and end the context with its failure."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name=name)
        try:
            yield
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def _typed(house: "House") -> AsyncIterator[None]:
    """Take what a person types, each with Enter."""
    if not sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()
    buttons = house.performance.buttons
    words = {key: buttons[word] for key, word in _KEYS.items()}

    def read() -> None:
        typed = sys.stdin.readline().strip().lower()
        if typed in words:
            words[typed]()

    loop.add_reader(sys.stdin.fileno(), read)
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin.fileno())
