"""What `openami conformance serve` and `watch` share: where the reports go, by which key, with which prices."""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from openami.cli.durations import as_duration
from openami.cli.report import Exit, fail, say
from openami.keyfiles import KeyFileError

if TYPE_CHECKING:
    from openami.conformance.judgement import Judgement, Kind
    from openami.conformance.observation import Observation
    from openami.conformance.report.writing import Written
    from openami.conformance.sheets import SheetOptions
    from openami.conformance.transcript import TranscriptWriter
    from openami.profile import RegisterCatalogue
    from openami.sip.keys import KeySigner

# It has the readings of people's houses in it.
_TRANSCRIPT_MODE = 0o600
# As a report holds it.
_is_price = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?").fullmatch

_Command = TypeVar("_Command", bound=Callable[..., Any])


def default_key() -> Path:
    """Return where the kit's key lies when none is named."""
    return Path(click.get_app_dir("openami")) / "conformance" / "kit-key.pem"


def _as_price(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    if value is None:
        return None
    if _is_price(value) is None:
        raise click.BadParameter(f"{value!r} is no price: write 0.04", ctx, param)
    return Decimal(value)


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
        "folder",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Write the report here: JSON, text, JUnit, HTML and PDF.",
    ),
    click.option(
        "--kit-key",
        "key",
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
    """What was asked for about the report; ``folder`` and ``transcript`` are None where none was."""

    folder: Path | None
    key: Path | None
    transcript: Path | None
    interval: timedelta | None
    price_per_mb: Decimal | None
    currency: str
    meter_types: dict[str, list[str]]


def report_options(command: _Command) -> _Command:
    """Add the options; the command receives them as one keyword argument, ``reports``."""

    @functools.wraps(command)
    def with_reports(*arguments: Any, **options: Any) -> Any:
        asked = {field.name: options.pop(field.name) for field in fields(ReportOptions)}
        if asked["price_per_mb"] is not None and not asked["currency"]:
            fail("--price-per-mb says no currency", Exit.USAGE, "add --currency EUR")
        return command(*arguments, reports=ReportOptions(**asked), **options)

    made: Any = with_reports
    for option in reversed(_OPTIONS):
        made = option(made)
    return cast(_Command, made)


class Reporting:
    """Keeps what a report needs of what is seen, and writes it at the end."""

    def __init__(
        self,
        reports: ReportOptions,
        signer: "KeySigner | None",
        transcript: "TranscriptWriter | None",
        catalogue: "RegisterCatalogue | None",
    ) -> None:
        from openami.conformance.traffic import Traffic

        self._reports = reports
        self._signer = signer
        self._transcript = transcript
        self._catalogue = catalogue
        self._traffic = Traffic()

    def see(self, observation: "Observation") -> None:
        """Take one more observation; in the order in which the judge sees them."""
        if self._signer is not None:
            self._traffic.see(observation)
        if self._transcript is not None:
            self._transcript.see(observation)

    def write(self, judgement: "Judgement") -> "Written | None":
        """Write the reports that were asked for, and say where they are and by which key they are signed."""
        folder, signer = self._reports.folder, self._signer
        if folder is None or signer is None:
            return None
        from openami.conformance.report.writing import write_reports
        from openami.conformance.sheets import sheets_of

        try:
            written = write_reports(
                judgement,
                sheets_of(judgement, self._traffic, self._sheet_options()),
                folder,
                signer,
                transcript=None if self._transcript is None else self._transcript.digest(),
            )
        except KeyFileError as error:
            fail(str(error), Exit.FAILED, error.remedy)
        except OSError as error:
            fail(f"{folder} cannot be written: {error.strerror or error}", Exit.FAILED)
        say(f"The report is in {folder}: {', '.join(p.name for p in written.paths.values())}")
        say(f"Signed by {signer.kid}; SHA-256 of report.json {written.sealed.digest}")
        return written

    def _sheet_options(self) -> "SheetOptions":
        from openami.conformance.sheets import SheetOptions

        asked = self._reports
        return SheetOptions(
            interval_s=None if asked.interval is None else int(asked.interval.total_seconds()),
            price_per_mb=asked.price_per_mb,
            currency=asked.currency,
            meter_types=asked.meter_types,
            catalogue=self._catalogue,
        )


@contextmanager
def reporting(
    reports: ReportOptions,
    kind: "Kind",
    began_at: datetime,
    *,
    catalogue: "RegisterCatalogue | None" = None,
    vendor: str = "",
    model: str = "",
    firmware: str = "",
) -> "Iterator[Reporting]":
    """Open what was asked for. Ends the program if there is no key, or a file or folder cannot be written: at the
    beginning of a run, not at its end.

    ``kind``, ``began_at``, ``vendor``, ``model`` and ``firmware`` are those the judge was made with.
    """
    signer = (
        None if reports.folder is None else _signer(reports.key or default_key(), reports.folder)
    )
    if reports.transcript is None:
        yield Reporting(reports, signer, None, catalogue)
        return
    from openami import __version__
    from openami.conformance import transcript

    head = transcript.Head(transcript.FORMAT, __version__, kind, began_at, vendor, model, firmware)
    try:
        reports.transcript.touch(_TRANSCRIPT_MODE)
        file = reports.transcript.open("wb", buffering=0)
    except OSError as error:
        fail(f"{reports.transcript} cannot be written: {error.strerror or error}", Exit.USAGE)
    with file:
        writer = transcript.TranscriptWriter(file, head)
        yield Reporting(reports, signer, writer, catalogue)
        if writer.ended_by:
            say(f"{reports.transcript} is not whole: {writer.ended_by}")


def _signer(key: Path, folder: Path) -> "KeySigner":
    from openami.conformance.report.kit_key import kit_signer

    try:
        folder.mkdir(parents=True, exist_ok=True)
        signer, made = kit_signer(key)
    except KeyFileError as error:
        fail(str(error), Exit.USAGE, error.remedy)
    except OSError as error:
        fail(f"{folder} cannot be made: {error.strerror or error}", Exit.USAGE)
    if made:
        say(
            f"A key was made for this kit, {key}; reports are signed by it. Its thumbprint: {signer.kid}"
        )
    return signer
