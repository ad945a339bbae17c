"""``openami driver import``: a register map of others, in the mbmap-2 format, made into ours."""

from pathlib import Path

import click

from openami.cli.files import A_FILE
from openami.cli.report import Exit, fail, say


@click.command("import")
@click.argument("mbmap", metavar="MBMAP.json", type=A_FILE)
@click.option(
    "--overlay",
    required=True,
    metavar="OVERLAY.toml",
    type=A_FILE,
    help="Which register is which OBIS code, how often it is read, with how many decimals.",
)
@click.option(
    "-o",
    "--out",
    metavar="MAP.toml",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the register map; without it, to stdout.",
)
def import_mbmap(mbmap: Path, overlay: Path, out: Path | None) -> None:
    """Make a register map of an mbmap-2 file and an overlay with its OBIS codes.

    Everything that cannot be carried over is told, and then nothing is written. Exit code 1: something cannot.
    """
    from openami.gateway.drivers.modbus.mbmap import CannotImport, import_map

    if out is not None and out.exists():
        fail(f"{out} is there already", Exit.USAGE, "name another file")
    try:
        imported = import_map(_text(mbmap), _text(overlay))
    except CannotImport as error:
        for fault in error.faults:
            say(str(fault))
        fail(f"{mbmap} cannot be imported: {len(error.faults)} faults", Exit.FAILED)
    for remark in imported.remarks:
        say(remark)
    if out is None:
        click.echo(imported.text, nl=False)
        return
    out.write_text(imported.text, encoding="utf-8")
    say(f"wrote {out}: {imported.registers} registers; compare each with the meter's display")


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: {error}", Exit.USAGE)
