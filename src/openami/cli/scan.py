"""``openami scan``: what answers on a line, at which speed and address, and the lines of a configuration for it."""

import asyncio
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from openami.cli.durations import as_duration
from openami.cli.meter_line import Place, numbers, place_of, place_options, port_at
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import printable

if TYPE_CHECKING:
    from openami.gateway.scan import Finding, PortSetting, ScanResult
    from openami.gateway.scan.scanning import Progress
    from openami.gateway.scan.search import Wanted

_OPTICAL = "iec62056-21"
_PROTOCOLS = ("modbus", "dlms", _OPTICAL)


@click.command()
@place_options
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(_PROTOCOLS),
    help="Only these; all without.",
)
@click.option(
    "--unit", "units", metavar="RANGE", default="1-247", show_default=True, help="Modbus addresses."
)
@click.option(
    "--physical",
    metavar="RANGE",
    help="HDLC addresses besides 16 and 17, e.g. a serial number's last digits.",
)
@click.option(
    "--taken",
    metavar="RANGE",
    help="Modbus addresses of meters that are switched off: none is proposed.",
)
@click.option(
    "--within",
    metavar="DURATION",
    default="3m",
    show_default=True,
    callback=as_duration,
    help="How long at most.",
)
@click.option(
    "--patience",
    type=click.FloatRange(0.1, 20),
    default=1.0,
    show_default=True,
    help="Multiplies every wait.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a finding, and one for the end."
)
def scan(
    protocols: tuple[str, ...],
    units: str,
    physical: str | None,
    taken: str | None,
    within: timedelta,
    patience: float,
    as_json: bool,
    **place: Any,
) -> None:
    """Ask a serial port or an endpoint who answers, and print the configuration of what was found.

    Modbus RTU and TCP, DLMS over HDLC and over the wrapper, the sign-on of IEC 62056-21: the likely speeds,
    parities and addresses first, then the rest as far as the time goes. Only reads are sent. --baudrate and
    --parity narrow the search; stop the gateway on this port first. Exit code 1: nothing was found, or two meters
    at one address; 3: the port or the endpoint is not there.
    """
    from openami.gateway.driver import LineDown
    from openami.gateway.scan import scanning
    from openami.gateway.scan.modbus import UNIT_MAX
    from openami.gateway.scan.search import network_search, serial_search

    where = place_of(**place)
    if where.host is not None and protocols == (_OPTICAL,):
        fail(f"{_OPTICAL} is looked for on a serial port", Exit.USAGE, "name it with --device")
    wanted = _wanted(
        where,
        protocols,
        units=numbers(units, "--unit", 1, UNIT_MAX),
        physical=() if physical is None else numbers(physical, "--physical", 1, 0x3FFF),
        patience=patience,
    )
    if where.device is not None:
        search = serial_search(wanted)
    else:
        search = network_search(wanted, where.port)
    try:
        result = asyncio.run(
            scanning.run(
                search,
                port_at(where),
                within_s=within.total_seconds(),
                on_progress=_show_progress,
                on_finding=lambda finding: _tell(finding, as_json),
            )
        )
    except LineDown as error:
        _clear_progress()
        fail(str(error), Exit.CANNOT_CONNECT)
    except KeyboardInterrupt:
        _clear_progress()
        sys.exit(Exit.INTERRUPTED)
    _clear_progress()
    _end(result, where, () if taken is None else numbers(taken, "--taken", 1, UNIT_MAX), as_json)


def _wanted(
    where: Place,
    protocols: tuple[str, ...],
    *,
    units: tuple[int, ...],
    physical: tuple[int, ...],
    patience: float,
) -> "Wanted":
    from openami.gateway.scan import Protocol
    from openami.gateway.scan.search import SETTINGS, SIGN_ON_SETTINGS, Wanted

    chosen = [p for p in Protocol if not protocols or p.value.startswith(tuple(protocols))]
    return Wanted(
        protocols=frozenset(chosen),
        settings=_narrowed(SETTINGS, where),
        sign_on_settings=_narrowed(SIGN_ON_SETTINGS, where),
        units=units,
        physical=physical,
        patience=patience,
    )


def _narrowed(settings: "tuple[PortSetting, ...]", where: Place) -> "tuple[PortSetting, ...]":
    """Return the settings that have what was asked for; the one asked for where none has."""
    from openami.gateway.scan import PortSetting

    left = [
        s for s in settings if all(getattr(s, key) == value for key, value in where.serial.items())
    ]
    if left or settings[0].databits == 7:
        return tuple(left)
    return (PortSetting(**{"baudrate": 9600, **where.serial}),)  # type: ignore[arg-type]  # checked by click


# --- what is said ---------------------------------------------------------------------------------


def _show_progress(progress: "Progress") -> None:
    if sys.stderr.isatty():
        text = (
            f"{progress.elapsed_s:4.0f} s of {progress.within_s:.0f}: {progress.trial.stage}, "
            f"{progress.trial.place}; found {progress.found}"
        )
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        click.echo(f"\r{text[: columns - 1].ljust(columns - 1)}", err=True, nl=False)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        click.echo("\r" + " " * (columns - 1) + "\r", err=True, nl=False)


def _tell(finding: "Finding", as_json: bool) -> None:
    _clear_progress()
    if as_json:
        print_json(finding_row(finding))
    else:
        say(sentence(finding))


def sentence(finding: "Finding") -> str:
    """One finding as a person reads it, in one printable line."""
    from openami.gateway.scan import Clash, Found

    at = f" at {finding.setting}" if finding.setting else ""
    match finding:
        case Found(address=address):
            told = [
                f"serial number {finding.serial}" if finding.serial else "",
                finding.says and f"calls itself {finding.says}",
                f"map {' or '.join(finding.maps)}" if finding.maps else "",
                *finding.remarks,
            ]
            if address.is_modbus and not finding.maps:
                told.append("no shipped map fits")
            return printable(
                f"found  {address.protocol}{at}, {address}: " + "; ".join(filter(None, told))
            )
        case Clash(address=address):
            sure = "CLASH " if finding.certain else "clash?"
            return printable(f"{sure} {address.protocol}{at}, {address}: {finding.evidence}")
        case _:
            sample = f" ({finding.sample[:12].hex(' ')} …)" if finding.sample else ""
            return f"noise {at}: {finding.remark}{sample}"


def finding_row(finding: "Finding") -> dict[str, object]:
    """One finding as programs read it."""
    from openami.gateway.scan import Clash, Noise

    row: dict[str, object] = {
        "finding": type(finding).__name__.lower(),
        "setting": None if finding.setting is None else str(finding.setting),
    }
    if isinstance(finding, Noise):
        return row | {"sample": finding.sample.hex(), "remark": finding.remark}
    row |= {"protocol": finding.address.protocol, "address": dict(finding.address.options)}
    if isinstance(finding, Clash):
        return row | {"certain": finding.certain, "evidence": finding.evidence}
    return row | {
        "serial": finding.serial,
        "says": finding.says,
        "maps": finding.maps,
        "remarks": finding.remarks,
    }


def _end(result: "ScanResult", where: Place, taken: tuple[int, ...], as_json: bool) -> None:
    from openami.gateway.scan import proposal

    moves = proposal.moves(result, taken=taken)
    if as_json:
        print_json(
            {
                "finding": "end",
                "meters": len(result.meters),
                "clashes": len(result.clashes),
                "moves": [{"unit": m.clash.address["unit"], "to": m.unit} for m in moves],
                "questions": result.questions,
                "elapsedS": round(result.elapsed_s, 1),
                "untried": result.untried,
                "remarks": result.remarks,
            }
        )
    else:
        for text in (*result.remarks, *map(str, moves)):
            say(text)
        if result.untried:
            say(f"The time was over before: {', '.join(result.untried)}. --within 20m goes on.")
        if result.meters:
            for text in proposal.UNKNOWABLE:
                say(text)
            device, host = where.device, where.host
            place = proposal.Device(device) if device else proposal.Endpoint(host or "", where.port)
            click.echo(proposal.configuration(result, place), nl=False)
    if result.clashes:
        fail(
            f"{len(result.clashes)} address{'es' * (len(result.clashes) != 1)} of more than one meter",
            Exit.FAILED,
        )
    if not result.meters:
        remedy = "look at power, at the wires A and B (exchange them) and at the termination"
        fail(f"nobody answered {result.questions} questions", Exit.FAILED, remedy)
