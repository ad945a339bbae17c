"""``openami conformance watch``: judge a live system through its broker, without touching it."""

import asyncio
import random
import secrets
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from openami.cli.conformance_reporting import ReportOptions, report_options, reporting
from openami.cli.durations import as_duration
from openami.cli.judgements import print_judgement
from openami.cli.options import broker_options, broker_settings
from openami.cli.report import Exit, fail, say
from openami.cli.storage import catalogue_of, registers_option
from openami.clock import SystemClock
from openami.conformance.judge import Judge
from openami.conformance.judgement import Kind
from openami.conformance.observation import Observation
from openami.conformance.observer import observe
from openami.end_signals import told_to_end
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings
from openami.profile import ProfileError, TelemetryTopic

# Everything of the profile, and what is beside it: a topic with a typing error is to be seen.
_EVERYTHING = "openami/#"
# As soon as a person looks up from the gateway.
NEWS_EVERY_S = 1.0


@click.command()
@click.option(
    "--of",
    "kind",
    type=click.Choice(["gateway", "headend"]),
    default="gateway",
    show_default=True,
    help="Whom to judge.",
)
@click.option("--gateway", metavar="FEEDER/GATEWAY", help="Only this gateway's topics.")
@click.option(
    "--for",
    "lasting",
    metavar="DURATION",
    callback=as_duration,
    help="End after so long (30s, 5m, 2h, 7d); otherwise Ctrl-C ends it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding.")
@registers_option
@report_options
@broker_options
def watch(
    kind: Kind,
    gateway: str | None,
    lasting: timedelta | None,
    as_json: bool,
    registers: str | None,
    reports: ReportOptions,
    **broker: Any,
) -> None:
    """Judge what passes through a broker, and publish nothing.

    Until Ctrl-C, or for a DURATION; then a verdict on each requirement. A broker does not tell who sent a
    message, nor how often: what only a connection shows is judged by `openami conformance serve`.

    Exit code: 0 conforms, 1 does not, or was not seen to, 3 the broker cannot be reached.
    """
    settings = broker_settings(
        # A name nobody else has, or we would throw somebody out.
        client_id=f"openami-watch-{secrets.token_hex(6)}",
        session_expiry_days=0,
        **broker,
    )
    for caution in settings.cautions():
        say(f"openami: {caution}")
    began_at, catalogue = SystemClock().now(), catalogue_of(registers)
    judge = Judge(kind, began_at=began_at, catalogue=catalogue)
    with reporting(reports, kind, began_at, catalogue=catalogue) as kept:

        def see(observation: Observation) -> None:
            judge.see(observation)
            kept.see(observation)

        try:
            asyncio.run(_watch(settings, _filter_of(gateway), judge, see, lasting))
        except TransportError as error:
            fail(str(error), Exit.CANNOT_CONNECT, error.remedy)
        judgement = judge.judgement(SystemClock().now())
        kept.write(judgement)
    sys.exit(print_judgement(judgement, as_json=as_json))


def _filter_of(gateway: str | None) -> str:
    if gateway is None:
        return _EVERYTHING
    feeder_id, _, gateway_id = gateway.partition("/")
    try:
        one = TelemetryTopic.filter(feeder_id, gateway_id)
    except ProfileError as error:
        raise click.BadParameter(f"{gateway!r} is not FEEDER/GATEWAY: {error.detail}") from None
    return one.partition("/meter/")[0] + "/#"


async def _watch(
    settings: BrokerSettings,
    topic_filter: str,
    judge: Judge,
    see: Callable[[Observation], None],
    lasting: timedelta | None,
) -> None:
    """Watch until interrupted, or until the time is up. Raises TransportError."""
    watching = asyncio.create_task(
        observe(settings, [topic_filter], see, clock=SystemClock(), random=random.random, tell=say),
        name="observe",
    )
    news = asyncio.create_task(_tell_news(judge), name="news")
    try:
        with told_to_end(watching.cancel):
            async with asyncio.timeout(None if lasting is None else lasting.total_seconds()):
                await watching
    except (asyncio.CancelledError, TimeoutError):
        pass
    finally:
        news.cancel()


async def _tell_news(judge: Judge) -> None:
    """Say what is broken when it is broken for the first time: who mends it need not wait for the end."""
    told: set[str] = set()  # bound: the requirements
    while True:
        await asyncio.sleep(NEWS_EVERY_S)
        for finding in judge.judgement(SystemClock().now()).findings:
            if finding.broken and finding.requirement not in told:
                told.add(finding.requirement)
                evidence = finding.evidence[0]
                say(
                    f"{finding.verdict} {finding.requirement}: {evidence.detail} ({evidence.topic})"
                )
