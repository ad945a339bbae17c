"""``openami gateway commission``: from the bench to a signed record (docs/commissioning.md)."""

import asyncio
import os
import secrets
import sqlite3
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from openami.cli.files import A_PATH
from openami.cli.gateway_config import gateway_config_option, loaded
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.clock import SystemClock
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.gateway.commissioning.ledger import Standing
    from openami.gateway.config import GatewayConfig
    from openami.gateway.scan.scanning import Progress
    from openami.sip.commissioning import Acceptance, BenchFinding

T = TypeVar("T")

# While it waits for the hour a person may press Ctrl-C; nothing changes within this time.
_LOOK_S = 5.0
_PERCENT = 100.0

_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def _as_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from openami.sip.commissioning import NAME_CHARS_MAX

    name = " ".join(value.split())
    if not 0 < len(name) <= NAME_CHARS_MAX:
        raise click.BadParameter(f"a name has 1 to {NAME_CHARS_MAX} characters")
    return name


_by_option = click.option(
    "--by",
    required=True,
    metavar="NAME",
    callback=_as_name,
    help="Who answers for it; it stands in the record.",
)


@click.group()
def commission() -> None:
    """Bring a feeder into service: bench scan, walk, first hour, signed record."""


@commission.command()
@gateway_config_option
@click.option("--within", "within_s", default=180.0, show_default=True, help="Seconds for a line.")
@_json_option
def bench(file: Path, within_s: float, as_json: bool) -> None:
    """Scan every line and compare what answers with the configuration; only reads.

    On the bench, before the pole; a serial line is the scan's alone, so the gateway must not run. Exit code 1:
    something is not as configured.
    """
    from openami.gateway.commissioning import ledger
    from openami.sip.commissioning import Bench, BenchVerdict

    config = loaded(file)
    findings = asyncio.run(_bench(config, within_s))
    now = SystemClock().now().replace(microsecond=0)
    _with_ledger(config, lambda c: ledger.note_bench(c, Bench(at=now, findings=tuple(findings))))
    if as_json:
        for each in findings:
            print_json(_finding_row(each))
    else:
        print_table(
            ["LINE", "ADDRESS", "VERDICT", "METER", "TOLD", "WHAT"],
            [
                [f.line, f.address, f.verdict.value, f.meter or "-", f.told or "-", f.words]
                for f in findings
            ],
        )
    wrong = [each for each in findings if each.verdict is not BenchVerdict.FOUND]
    for each in wrong:
        say(f"{each.about}: {each.verdict.value.replace('_', ' ')} — {each.remedy}")
    say(f"{len(findings) - len(wrong)} of {len(findings)} as configured")
    if wrong:
        sys.exit(Exit.FAILED)


async def _bench(config: "GatewayConfig", within_s: float) -> "list[BenchFinding]":
    from openami.gateway.commissioning.bench import compare
    from openami.gateway.commissioning.bench_scan import ask_line, is_searchable, search_line
    from openami.gateway.driver import DriverError
    from openami.gateway.installed_drivers import InstalledDrivers
    from openami.sip.commissioning import FINDINGS_MAX

    drivers = InstalledDrivers()
    scanned, asked = [], []
    stage = ""

    def tell(progress: "Progress") -> None:
        nonlocal stage
        if progress.trial.stage != stage:
            stage = progress.trial.stage
            say(f"  {stage}: {progress.elapsed_s:.0f} of {progress.within_s:.0f} s")

    for line in config.lines:
        say(f"line {line.settings.name}")
        try:
            if is_searchable(line):
                scanned.append(await search_line(line, within_s=within_s, on_progress=tell))
            else:
                asked += await ask_line(line, drivers[line.driver])
        except DriverError as error:
            fail(str(error), Exit.CANNOT_CONNECT, "does the gateway run? Then it holds the port")
    return [*compare(scanned), *asked][:FINDINGS_MAX]


@commission.command()
@gateway_config_option
@click.option("--feeder-meter", metavar="SERIAL", help="The meter that counts the whole feeder.")
@click.option("--nominal-voltage", type=click.FloatRange(50, 1000), help="Volts; 230 unless said.")
@click.option("--loss-max", type=click.FloatRange(0, 100), help="Loss that fails, in %; 20.")
@click.option("--anew", is_flag=True, help="Forget ticks, deviations, bench and hour first.")
@_json_option
def start(
    file: Path,
    feeder_meter: str | None,
    nominal_voltage: float | None,
    loss_max: float | None,
    anew: bool,
    as_json: bool,
) -> None:
    """Print a PIN with which one phone may tick meters on the gateway's page.

    It works once, within 36 hours, for twelve hours; a new one ends the one before. What was ticked stays.
    """
    from msgspec.structs import replace

    from openami.gateway.commissioning import ledger
    from openami.gateway.commissioning.permit import PIN_DIGITS, PIN_LIFE, issue

    config, now = loaded(file), SystemClock().now()
    if config.status.address is None:
        fail(
            f"{file}: status.listen is empty: there is no page to tick on",
            Exit.USAGE,
            "give it an address, and restart the gateway",
        )
    if feeder_meter is not None and feeder_meter not in set(config.serials):
        fail(f"{feeder_meter} is no meter of {file}", Exit.USAGE)
    pin = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
    permit = issue(pin, secrets.token_bytes(16), now)

    def begin(connection: sqlite3.Connection) -> None:
        if anew:
            ledger.forget(connection)
        before = ledger.standing(connection)
        limits = before.limits
        if nominal_voltage is not None:
            limits = replace(limits, nominal_v=nominal_voltage)
        if loss_max is not None:
            fails = loss_max / _PERCENT
            limits = replace(
                limits, loss_share_fail=fails, loss_share_warn=min(limits.loss_share_warn, fails)
            )
        ledger.begin(
            connection,
            permit,
            feeder_meter=before.feeder_meter if feeder_meter is None else feeder_meter,
            limits=limits,
        )

    _with_ledger(config, begin)
    half = PIN_DIGITS // 2
    if as_json:
        print_json({"pin": pin, "until": utc_text(now + PIN_LIFE), "page": "walk"})
    else:
        click.echo(f"{pin[:half]} {pin[half:]}")
    say(f"on the phone: http://<this gateway>:{config.status.address[1]}/walk, Sign in to tick")


@commission.command()
@gateway_config_option
def stop(file: Path) -> None:
    """End the PIN and the phone's sign-in; what was ticked stays."""
    from openami.gateway.commissioning import ledger

    _with_ledger(loaded(file), ledger.end)
    say("nobody is signed in any more")


@commission.command()
@gateway_config_option
@click.option("--begin", is_flag=True, help="Begin an hour now, in place of any before.")
@click.option("--wait", is_flag=True, help="Wait until the hour is over.")
@_json_option
def accept(file: Path, begin: bool, wait: bool, as_json: bool) -> None:
    """Judge the first hour: each rule with what was measured and what to do.

    Exit code 0: no rule fails; 1: one does; 5: the hour is not over, and how long still is said.
    """
    import time

    from openami.gateway.commissioning import ledger
    from openami.gateway.commissioning.acceptance import remaining
    from openami.sip.commissioning import RuleVerdict

    config, clock = loaded(file), SystemClock()
    if begin:
        now = clock.now().replace(microsecond=0)
        _with_ledger(config, lambda connection: ledger.begin_hour(connection, now))
    standing = _with_ledger(config, ledger.standing)
    began_at = standing.hour_began_at
    if began_at is None:
        fail("no hour has begun", Exit.OUTCOME_UNKNOWN, "begin one: --begin, or on the page")
    while left := remaining(began_at, clock.now()):
        if not wait:
            fail(
                f"the hour from {began_at:%H:%M} UTC is not over: {_minutes(left)} min still",
                Exit.OUTCOME_UNKNOWN,
                "ask again then, or say --wait",
            )
        time.sleep(min(_LOOK_S, left.total_seconds()))
    acceptance = _judged(config, standing, clock.now())
    assert acceptance is not None
    counts = {
        verdict: sum(1 for result in acceptance.results if result.verdict is verdict)
        for verdict in RuleVerdict
    }
    if as_json:
        for result in acceptance.results:
            print_json(
                {
                    "rule": result.rule,
                    "meter": result.meter or None,
                    "verdict": result.verdict.value,
                    "measured": result.measured,
                    "remedy": result.remedy or None,
                }
            )
    else:
        shown = [r for r in acceptance.results if r.verdict is not RuleVerdict.PASS]
        print_table(
            ["VERDICT", "RULE", "METER", "MEASURED", "REMEDY"],
            [
                [r.verdict.value, r.rule, r.meter or "-", r.measured, r.remedy]
                for r in sorted(shown, key=lambda r: r.verdict is RuleVerdict.WARN)
            ],
        )
    say(", ".join(f"{count} {verdict.value}" for verdict, count in counts.items()))
    if counts[RuleVerdict.FAIL]:
        sys.exit(Exit.FAILED)


@commission.command()
@gateway_config_option
@click.argument("rule", metavar="RULE")
@click.argument("about", metavar="[METER]", default="")
@click.option("--reason", metavar="WORDS", default="", help="Why it may stay so.")
@_by_option
@click.option("--withdraw", is_flag=True, help="Take it back.")
def deviate(file: Path, rule: str, about: str, reason: str, by: str, withdraw: bool) -> None:
    """Answer for something that is not as it should be: RULE and METER as `commission record` names them."""
    from openami.gateway.commissioning import ledger
    from openami.gateway.commissioning.content import content_of
    from openami.gateway.installed_drivers import InstalledDrivers
    from openami.sip.commissioning import NOTE_CHARS_MAX, Deviation, points

    config, now = loaded(file), SystemClock().now()
    if withdraw:
        if not _with_ledger(config, lambda c: ledger.withdraw_deviation(c, rule, about)):
            fail(f"nobody answers for {rule} {about}".rstrip(), Exit.FAILED)
        return
    if not reason.strip():
        fail("a deviation needs a reason", Exit.USAGE, "say --reason")
    standing = _with_ledger(config, ledger.standing)
    acceptance = _judged(config, standing, now)
    content = content_of(config, InstalledDrivers(), standing, acceptance, by=by, now=now)
    known = [(point.rule, point.about) for point in points(content)]
    if (rule, about) not in known:
        told = ", ".join(f"{one} {other}".rstrip() for one, other in known[:10])
        fail(
            f"{rule} {about} is not open".replace("  ", " "),
            Exit.FAILED,
            f"open: {told or 'nothing'}",
        )
    try:
        deviation = Deviation(
            rule=rule,
            about=about,
            reason=reason.strip()[:NOTE_CHARS_MAX],
            by=by,
            at=now.replace(microsecond=0),
        )
        _with_ledger(config, lambda connection: ledger.note_deviation(connection, deviation))
    except ledger.LedgerFull as error:
        fail(str(error), Exit.FAILED)


@commission.command()
@gateway_config_option
@click.argument("out", metavar="OUT", type=A_PATH)
@_by_option
@_json_option
def record(file: Path, out: Path, by: str, as_json: bool) -> None:
    """Write the record to OUT, a new file or a folder, signed with the gateway's key; a page to print beside it.

    Whoever has the village's roots proves it with `openami verify`, without a network. It is written accepted or
    not, and says which; exit code 1: something is open that nobody answers for.
    """
    from openami.gateway.commissioning import ledger
    from openami.gateway.commissioning.content import content_of
    from openami.gateway.commissioning.readable import record_html
    from openami.gateway.export import ExportError, new_file
    from openami.gateway.installed_drivers import InstalledDrivers
    from openami.keyfiles import KeyFileError, load_signer
    from openami.sip.commissioning import open_points
    from openami.sip.commissioning_record import seal, sha256_of

    config, now = loaded(file), SystemClock().now()
    if not config.commands.key_file:
        fail(
            f"{file} names no key to sign with",
            Exit.USAGE,
            "enrol the gateway, and name key_file and roots_file in the table [commands]",
        )
    try:
        signer = load_signer(Path(config.commands.key_file))
    except KeyFileError as error:
        fail(str(error), Exit.USAGE, error.remedy)
    standing = _with_ledger(config, ledger.standing)
    keyrings = _with_ledger(config, _keyrings)
    acceptance = _judged(config, standing, now)
    content = content_of(config, InstalledDrivers(), standing, acceptance, by=by, now=now)
    data = seal(content, signer, keyrings=keyrings)
    name = f"{config.feeder_id}_{config.gateway_id}_{now:%Y%m%dT%H%M%SZ}.commissioning.json"
    target = out / name if out.is_dir() else out
    page = target.with_suffix(".html")
    sha256 = sha256_of(data)
    for path, written in ((target, data), (page, record_html(content, sha256).encode())):
        if path.exists():
            fail(f"{path} is there already", Exit.FAILED, "name another file, or a folder")
        try:
            with new_file(path) as opened:
                opened.write(written)
        except ExportError as error:
            fail(str(error), Exit.FAILED, error.remedy)
    still_open = open_points(content)
    if as_json:
        print_json(
            {
                "file": str(target),
                "page": str(page),
                "sha256": sha256,
                "signedBy": signer.kid,
                "accepted": not still_open,
                "open": [
                    {"rule": p.rule, "about": p.about or None, "what": p.words} for p in still_open
                ],
            }
        )
    else:
        click.echo(str(target))
        for point in still_open:
            say(f"open: {' '.join(filter(None, (point.rule, point.about)))}: {point.words}")
    if not keyrings:
        say("the gateway has no keyring yet: whoever verifies the record needs --keyring")
    say("accepted" if not still_open else f"NOT ACCEPTED: {len(still_open)} open")
    if still_open:
        sys.exit(Exit.FAILED)


def _keyrings(connection: sqlite3.Connection) -> list[bytes]:
    return [doc for (doc,) in connection.execute("SELECT document FROM command_keyring").fetchall()]


# --- the ledger -----------------------------------------------------------------------------------


def _judged(config: "GatewayConfig", standing: "Standing", now: datetime) -> "Acceptance | None":
    from openami.gateway.commissioning.judging import judged
    from openami.gateway.database import DatabaseError

    try:
        return judged(config, config.database, standing, now)
    except DatabaseError as error:
        fail(str(error), Exit.FAILED, error.remedy)


def _with_ledger(config: "GatewayConfig", work: Callable[[sqlite3.Connection], T]) -> T:
    """Do a short work on the gateway's database, beside it if it runs."""
    from openami.gateway.database import DatabaseError, open_database

    path = config.database
    _refuse_another_user(path)

    async def run() -> T:
        async with open_database(path) as database:
            return await database.run(work)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return asyncio.run(run())
    except DatabaseError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except OSError as error:
        fail(f"{path.parent}: {error.strerror}", Exit.FAILED, "run it as the gateway's user")


def _refuse_another_user(path: Path) -> None:
    """Refuse to leave files beside the database that the gateway may not write: root's, above all."""
    place = path if path.exists() else path.parent
    if place.exists() and place.stat().st_uid != os.geteuid():
        _not_the_gateways_user(place)


def _not_the_gateways_user(place: Path) -> NoReturn:
    fail(f"{place} belongs to another user", Exit.FAILED, "run it as the gateway's user")


def _finding_row(finding: "BenchFinding") -> dict[str, object]:
    return {
        "line": finding.line,
        "address": finding.address,
        "verdict": finding.verdict.value,
        "meter": finding.meter,
        "told": finding.told,
        "what": finding.words or None,
        "remedy": finding.remedy or None,
    }


def _minutes(left: timedelta) -> int:
    return max(1, round(left.total_seconds() / 60))
