"""Keep the console's catalogues in step with its words, and say what is still to be translated.

    .venv/bin/python -m tools.catalogues          # rewrites every console.po
    .venv/bin/python -m tools.catalogues sw       # makes one for a new language, too

A sentence that has changed is a new one: nothing is guessed from its neighbours, so no catalogue ever has a fuzzy
entry. What is no longer said is dropped; the history has it.
"""

import io
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po, write_po

from openami.profile import shipped_catalogue

ROOT: Final = Path(__file__).resolve().parent.parent
WEB: Final = ROOT / "src/openami/headend/web"
LOCALE: Final = WEB / "console/locale"
# Fit for a screen beside the template; longer lines are folded by every editor differently.
WIDTH: Final = 100
_HEADER: Final = (
    "# The console in {language}. Kept in step with the templates by tools/catalogues.py."
)


def main(languages: Sequence[str]) -> None:
    """Rewrite the catalogues there are, and those of the languages named."""
    there = sorted(path.name for path in LOCALE.iterdir()) if LOCALE.is_dir() else []
    for language in sorted({*there, *languages}):
        path = catalogue_path(language)
        known = read(path) if path.is_file() else Catalog(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(updated(known, language)), encoding="utf-8")
        missing = list(untranslated(read(path)))
        print(f"{language}: {len(missing)} to translate")
        for message in missing:
            print(f"  {message.id!r}")


def catalogue_path(language: str) -> Path:
    """Return where a language's catalogue is."""
    return LOCALE / language / "LC_MESSAGES/console.po"


def read(path: Path) -> Catalog:
    """Return a catalogue as it is."""
    with path.open("rb") as file:
        return read_po(file, locale=path.parent.parent.name, abort_invalid=True)


@cache
def said() -> Catalog:
    """Return every sentence the console says, with the files it is said in."""
    with (ROOT / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    catalogue = Catalog()
    found = extract_from_dir(WEB, methods, options, keywords=_KEYWORDS, strip_comment_tags=True)
    for name, line, text, comments, context in sorted(found, key=lambda each: each[:2]):
        assert not context, f"{name}:{line}: contexts are not used"
        catalogue.add(text, locations=[(str(name), line)], auto_comments=comments)
    for register in shipped_catalogue():
        catalogue.add(register.name, locations=[("spec/vmrs-registers.json", 1)])
    return catalogue


# Header lines that say when, by whom and with which Babel, and not what.
_CHANGING: Final = re.compile(
    r'^"(POT-Creation-Date|PO-Revision-Date|Project-Id-Version|Report-Msgid-Bugs-To|Last-Translator'
    r"|Language-Team|Generated-By): .*\n",
    re.MULTILINE,
)
_KEYWORDS: Final = {
    "_": None,
    "N_": None,
    "gettext": None,
    "ngettext": (1, 2),
}


def updated(known: Catalog, language: str) -> Catalog:
    """Return the catalogue of what is said now, with the translations that are known."""
    catalogue = Catalog(language, fuzzy=False)
    for message in said():
        if message.id:
            before = known.get(message.id)
            string = before.string if before is not None and not before.fuzzy else ""
            places = sorted({(file, 1) for file, _ in message.locations})
            catalogue.add(message.id, string, locations=places, flags=message.flags)
    return catalogue


def untranslated(catalogue: Catalog) -> Iterator[Message]:
    """Yield the messages of which a form is missing."""
    for message in catalogue:
        told = message.string
        if message.id and not (told if isinstance(told, str) else all(told or ("",))):
            yield message


def text_of(catalogue: Catalog) -> str:
    """Return a catalogue as it is written: without the dates, which would change it every time."""
    written = io.BytesIO()
    write_po(written, catalogue, width=WIDTH, omit_header=False, include_lineno=False)
    text = written.getvalue().decode()
    _, _, rest = text.partition('msgid ""\n')
    name = catalogue.locale.english_name if catalogue.locale else "?"
    fields = _CHANGING.sub("", rest)
    return f'{_HEADER.format(language=name)}\nmsgid ""\n{fields}'


if __name__ == "__main__":
    main(sys.argv[1:])
