"""The catalogues: whole, sound, in step with the templates; and nothing English is said past them."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from babel.messages.catalog import Catalog, Message
from jinja2 import nodes
from tests.cases import in_one_test
from tests.headend.web.visible_text import visible_texts
from tools.catalogues import LOCALE, WEB, catalogue_path, read, said, text_of, untranslated, updated

from openami.headend.web.console.rendering import environment
from openami.headend.web.console.speech import languages

LANGUAGES: Final = ("fr", "hi", "sw")
EACH: Final = pytest.mark.parametrize("language", LANGUAGES)
TEMPLATES: Final = sorted((WEB / "console/templates").glob("*.html"))
_PLACE: Final = re.compile(r"%\(\w+\)s|%%|\{\w+\}|<[^>]+>")


def forms(message: Message) -> Iterator[tuple[str, str]]:
    """Yield each translated form beside what it translates."""
    if isinstance(message.id, str):
        assert isinstance(message.string, str)
        yield message.id, message.string
    else:
        assert message.string is not None
        for at, string in enumerate(message.string):
            yield message.id[min(at, len(message.id) - 1)], string


def messages(language: str) -> list[Message]:
    return [message for message in read(catalogue_path(language)) if message.id]


def test_the_languages_are_these() -> None:
    assert sorted(path.name for path in LOCALE.iterdir()) == list(LANGUAGES)
    assert languages() == ("en", *LANGUAGES)


@EACH
def test_it_is_in_step_with_the_pages_and_whole(language: str) -> None:
    """If this fails: python -m tools.catalogues, then translate what it prints."""
    path = catalogue_path(language)
    known = read(path)
    after = updated(known, language)
    assert not [message.id for message in untranslated(after)]
    assert path.read_text(encoding="utf-8") == text_of(after)
    assert not known.obsolete


@EACH
def test_nothing_in_it_is_a_guess_or_breaks_a_sentence(language: str) -> None:
    catalogue = read(catalogue_path(language))
    assert not catalogue.fuzzy
    assert not [message.id for message in catalogue if message.fuzzy]
    assert not list(catalogue.check())
    for message in messages(language):
        for source, translation in forms(message):
            assert Counter(_PLACE.findall(translation)) == Counter(_PLACE.findall(source)), source
            assert translation == translation.strip(), source
            assert translation.endswith("…") == source.endswith("…"), source
            assert translation.endswith(":") == source.endswith(":"), source


@EACH
def test_it_is_that_language(language: str) -> None:
    """A sentence left in English is not a translation."""
    same = [
        source
        for message in messages(language)
        for source, translation in forms(message)
        if source == translation and len(source.split()) > 2
    ]
    assert not same
    letters = "".join(string for message in messages(language) for _, string in forms(message))
    devanagari = sum("\u0900" <= letter <= "\u097f" for letter in letters)
    assert (devanagari > len(letters) / 3) == (language == "hi")


def test_french_keeps_its_signs_with_their_words() -> None:
    """A line never begins with a colon or a question mark."""
    for message in messages("fr"):
        for source, translation in forms(message):
            assert not re.search(r" [:;?!»]|« ", translation), source
            assert "'" not in re.sub(r"%\(\w+\)s|<[^>]+>", "", translation), source


# --- nothing past the catalogues -----------------------------------------------------------------

# Names, units and signs that are the same in every language.
_SAME: Final = re.compile(
    r"\b(OpenAMI|API|CSV|JSON Lines|JSON|Parquet|GeoJSON|UTC|kWh|kW|OBIS|MiB|TX|IANA"
    r"|Prospect, Africa Minigrids Program|\w+_ts)\b"
)
_ENGLISH: Final = re.compile(r"[A-Za-z]{2,}")
_VALUE: Final = "\ufffc"


def literal(template: str) -> str:
    """Return a template's own text, with a sign in the place of every value and every translated sentence."""
    tree = environment("en").parse(template)
    for macro in tree.find_all(nodes.Macro):
        if macro.name.endswith("_class"):  # what it says is for the style sheet
            macro.body = []
    text = []
    for output in tree.find_all(nodes.Output):
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                text.append(node.data)
            else:
                text.append(_shown_constants(node))
    return "".join(text)


def _shown_constants(node: nodes.Node) -> str:
    """Return the constants an expression may show as they stand: {{ "late" if x else "in time" }}."""
    if isinstance(node, nodes.Const):
        return str(node.value)
    if isinstance(node, nodes.CondExpr):
        other = _VALUE if node.expr2 is None else _shown_constants(node.expr2)
        return _shown_constants(node.expr1) + other
    if isinstance(node, nodes.Concat):
        return "".join(map(_shown_constants, node.nodes))
    return _VALUE


@in_one_test(TEMPLATES, name=lambda path: path.name)
def test_a_template_says_nothing_past_the_catalogues(path: Path) -> None:
    loose = [
        text
        for text in visible_texts(literal(path.read_text(encoding="utf-8")))
        if _ENGLISH.search(_SAME.sub("", text))
    ]
    assert not loose, f"{path.name}: wrap these in _() or {{% trans %}}"


def test_every_sentence_stands_for_itself() -> None:
    """No part of a sentence is a message, so that every language can order its words."""
    halves = [
        message.id
        for message in said()
        if isinstance(message.id, str) and message.id and message.id != message.id.strip()
    ]
    assert not halves


def test_the_tool_forgets_what_is_no_longer_said_and_guesses_nothing() -> None:
    known = Catalog("sw")
    known.add("Gone from the pages", "Imeondoka")
    known.add("Meters", "Mita")
    after = updated(known, "sw")
    assert after.get("Gone from the pages") is None
    strings = {message.id: message.string for message in after}
    assert (strings["Meters"], strings["Meter"]) == ("Mita", "")
