"""What `openami conformance serve` and `watch` share: where the reports go, by which key, with which prices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openami.cli.durations import as_duration
from openami.cli.report import Exit, fail, say
from openami.keyfiles import KeyFileError

if TYPE_CHECKING:
    from openami.conformance.judgement import Judgement, Kind
    from openami.conformance.report.writing import Written
    from openami.conformance.sheets import SheetOptions
    from openami.conformance.traffic import Traffic
    from openami.conformance.transcript import TranscriptWriter

_Command = TypeVar("_Command", bound=Callable[..., Any])


def default_key() -> Path:
    """Return where the kit's key lies when none is named."""
    return Path(click.get_app_dir("openami")) / "conformance" / "kit-key.pem"


def _as_price(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    if value is None:
        return None
    try:
        price = Decimal(value)
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or price < 0:
        raise click.BadParameter(f"{value!r} is no price: write 0.04", ctx, param)
    return price


def _as_types(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, list[str]]:
    from openami.conformance.coverage import METER_TYPES

    types: dict[str, list[str]] = {}
    for value in values:
        serial, separator, names = value.rpartition("=")
        named = names.split(",")
        unknown = [name for name in named if name not in METER_TYPES]
        if unknown:
            raise click.BadParameter(
                f"{unknown[0]!r} is no type of meter: {', '.join(METER_TYPES)}", ctx, param
            )
        types.setdefault(serial if separator else "*", []).extend(named)
    return types


_OPTIONS = (
    click.option(
        "--reports",
        "directory",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Write the report here: JSON, text, JUnit, HTML and PDF.",
    ),
    click.option(
        "--key",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The kit's key, which signs the report; made if it is not there.",
    ),
    click.option(
        "--transcript",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Keep everything that is seen, so that others can judge it again.",
    ),
    click.option(
        "--interval",
        metavar="5m",
        callback=as_duration,
        help="Reckon the bandwidth at this interval, too.",
    ),
    click.option(
        "--price-per-mb", metavar="0.04", callback=_as_price, help="What a megabyte costs."
    ),
    click.option("--currency", metavar="EUR", default="", help="In which currency."),
    click.option(
        "--meter-type",
        "meter_types",
        metavar="[SERIAL=]TYPE,…",
        multiple=True,
        callback=_as_types,
        help="What the meters are: prepaid, relay, net-metered, three-phase; of one, or of all.",
    ),
)


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What was asked for about the report."""

    directory: Path | None
    key: Path
    transcript: Path | None
    sheets: "SheetOptions"


def report_options(command: _Command) -> _Command:
    """Add the options; the command receives them as keyword arguments for ``reporting``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def reporting(
    *,
    directory: Path | None,
    key: Path | None,
    transcript: Path | None,
    interval: timedelta | None,
    price_per_mb: Decimal | None,
    currency: str,
    meter_types: dict[str, list[str]],
) -> ReportOptions:
    """Return the options as one value."""
    from openami.conformance.sheets import SheetOptions

    if price_per_mb is not None and not currency:
        fail("--price-per-mb says no currency", Exit.USAGE, "add --currency EUR")
    return ReportOptions(
        directory,
        key or default_key(),
        transcript,
        SheetOptions(
            interval_s=None if interval is None else int(interval.total_seconds()),
            price_per_mb=price_per_mb,
            currency=currency,
            meter_types=meter_types,
        ),
    )


@contextmanager
def kept_transcript(
    options: ReportOptions,
    kind: "Kind",
    began_at: datetime,
    *,
    vendor: str = "",
    model: str = "",
    firmware: str = "",
) -> "Iterator[TranscriptWriter | None]":
    """Open the transcript that was asked for; None where none was. Ends the program if it cannot be written."""
    if options.transcript is None:
        yield None
        return
    from openami import __version__
    from openami.conformance import transcript

    head = transcript.Head(transcript.FORMAT, __version__, kind, began_at, vendor, model, firmware)
    try:
        file = options.transcript.open("wb", buffering=0)
    except OSError as error:
        fail(f"{options.transcript} cannot be written: {error.strerror or error}", Exit.USAGE)
    with file:
        writer = transcript.TranscriptWriter(file, head)
        yield writer
        if writer.ended_by:
            say(f"{options.transcript} is not whole: {writer.ended_by}")


def write_and_tell(
    judgement: "Judgement",
    traffic: "Traffic",
    options: ReportOptions,
    transcript: "TranscriptWriter | None" = None,
) -> "Written | None":
    """Write the reports that were asked for, and say where they are and by which key they are signed."""
    if options.directory is None:
        return None
    from openami.conformance.report.kit_key import kit_signer
    from openami.conformance.report.writing import write_reports
    from openami.conformance.sheets import sheets_of

    try:
        signer, made = kit_signer(options.key)
        written = write_reports(
            judgement,
            sheets_of(judgement, traffic, options.sheets),
            options.directory,
            signer,
            transcript=None if transcript is None else transcript.digest(),
        )
    except KeyFileError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except OSError as error:
        fail(f"{options.directory} cannot be written: {error.strerror or error}", Exit.FAILED)
    if made:
        say(
            f"A key was made for this kit: {options.key}. Keep it, and tell its thumbprint to who reads reports."
        )
    say(
        f"The report is in {options.directory}: {', '.join(p.name for p in written.paths.values())}"
    )
    say(f"Signed by {signer.kid}; SHA-256 of report.json {written.sealed.digest}")
    return written
