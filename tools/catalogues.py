"""Collect what the console says: `python tools/catalogues.py [LANGUAGE …]`; a language that is named is begun.

Sentences of templates and code go to locale/console.pot; each catalogue is brought up to date with it, keeping
what is translated. With --check, says whether the collection is as it was written.
"""

import io
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
CONSOLE = ROOT / "src/openami/headend/web/console"
LOCALE = CONSOLE / "locale"
TEMPLATE = LOCALE / "console.pot"
_METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
_OPTIONS = {"templates/**.html": {"trimmed": "false", "newstyle_gettext": "true"}}


def main(arguments: list[str]) -> int:
    """Write the collection and the catalogues, or check; 1 when it is stale."""
    template = collected()
    if arguments == ["--check"]:
        stale = not TEMPLATE.is_file() or sentences(
            read_po(io.BytesIO(TEMPLATE.read_bytes()))
        ) != sentences(template)
        if stale:
            print("locale/console.pot is stale: run python tools/catalogues.py", file=sys.stderr)
        return int(stale)
    LOCALE.mkdir(exist_ok=True)
    TEMPLATE.write_bytes(written(template))
    known = {path.parents[1].name for path in LOCALE.glob("*/LC_MESSAGES/console.po")}
    for language in sorted(known | set(arguments)):
        path = LOCALE / language / "LC_MESSAGES" / "console.po"
        path.parent.mkdir(parents=True, exist_ok=True)
        catalogue = (
            read_po(io.BytesIO(path.read_bytes()), locale=language)
            if path.is_file()
            else Catalog(locale=language)
        )
        catalogue.update(template, no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        path.write_bytes(written(catalogue))
    return 0


def collected() -> Catalog:
    """Return every sentence of the console, and where it stands."""
    catalogue = Catalog(project="OpenAMI", charset="utf-8")
    for file, line, message, comments, context in extract_from_dir(
        CONSOLE,
        _METHODS,
        _OPTIONS,
        keywords={"_": None, "gettext": None, "ngettext": (1, 2), "N_": None},
    ):
        catalogue.add(message, None, [(file, line)], auto_comments=comments, context=context)
    return catalogue


def sentences(catalogue: Catalog) -> set[object]:
    """Return what is to be translated."""
    return {message.id for message in catalogue if message.id}


def written(catalogue: Catalog) -> bytes:
    """Return a catalogue as text, without the lines that change with every edit."""
    text = io.BytesIO()
    write_po(
        text,
        catalogue,
        omit_header=not catalogue.locale,
        sort_output=True,
        include_lineno=False,
        width=100,
    )
    lines = text.getvalue().splitlines(keepends=True)
    return b"".join(
        line for line in lines if b"-Creation-Date" not in line and b"Revision-Date" not in line
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
