"""Every page in every language: rendered whole, and with no word on it that did not go through a catalogue.

The pages are asked for in a language made for this test, in which every sentence stands in brackets: what is read
outside them is data, or was forgotten. It borrows Japanese's dates and durations, which have no Latin letter.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from babel import Locale
from babel.messages.catalog import Catalog
from fastapi.routing import iter_route_contexts
from tests.headend.messages import TOPIC
from tests.headend.test_ledger import a_command
from tests.headend.village_keys import keyring
from tests.headend.web import village
from tests.headend.web.browser import Browser, premises
from tests.headend.web.visible_text import visible_texts
from tools.catalogues import said, text_of

from openami.headend.accounts import Role
from openami.headend.alarm_watch import AlarmWatch
from openami.headend.audit import Entry
from openami.headend.bulk import Bulk, BulkMeter
from openami.headend.commands import withdrawn
from openami.headend.ingest import Message, ingest
from openami.headend.store.commands import HeadEndStore, StoredKeyring
from openami.headend.web.console import console_routes, speech
from openami.headend.web.console.rendering import environment
from openami.profile import shipped_catalogue

# Not pages: files, streams, and what a form answers.
_FILES: Final = re.compile(
    r"/static/|/live/|\.(jsonl|json|xlsx|geojson)$|/series$|/exports/|/(document|report)$"
)
_BRACKETED: Final = re.compile(r"⟦[^⟦⟧]*⟧")
_WORD: Final = re.compile(r"[A-Za-z]{3,}")


def bracketed() -> Catalog:
    """Return a catalogue in which every sentence stands in brackets."""
    catalogue = Catalog("ja", fuzzy=False)
    for message in said():
        if isinstance(message.id, str) and message.id:
            catalogue.add(message.id, f"⟦{message.id}⟧")
        elif message.id:
            catalogue.add(message.id, (f"⟦{message.id[1]}⟧",) * catalogue.num_plurals)
    return catalogue


@pytest.fixture
def brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let the console speak one language more; return its name."""
    path = tmp_path / "brackets.po"
    path.write_text(text_of(bracketed()), encoding="utf-8")
    known = {**speech.catalogues(), "ja": path}
    monkeypatch.setattr(speech, "catalogues", lambda: known)
    yield "ja"
    environment.cache_clear()
    speech._words.cache_clear()
    speech._SPEECHES.pop("ja", None)


@asynccontextmanager
async def console(store: HeadEndStore, language: str) -> AsyncIterator[Browser]:
    """Open the village's console, with something of everything in it, before an engineer."""
    async with premises(store) as place:
        place.clock.at = village.NOW
        now = village.NOW
        await store.commit([village.cover_opened("DS1000-88405")])
        bad = Message(TOPIC, b'{"schemaVersion": "0.1"', now)
        await store.commit([ingest(bad, catalogue=shipped_catalogue())])
        ring = StoredKeyring(village.FEEDER, village.GATEWAY, 1, keyring(now=now), now, "root")
        await store.add_keyring(ring, Entry(who="root", what="keyring added"))
        command = a_command(
            feeder_id=village.FEEDER,
            gateway_id=village.GATEWAY,
            meter_serial="DS1000-88405",
            requested_at=now,
            not_after=now + village.QUARTER,
            due_at=now,
        )
        await store.request_command(command, now)
        other = replace(command, id="cmd-2", meter_serial="DS1000-88406")
        await store.request_command(other, now)
        await store.change_command("cmd-2", lambda it, _: withdrawn(it, now, who="asha"), now)
        bulk = Bulk(
            id="bulk-1",
            feeder_id=village.FEEDER,
            reason="unpaid",
            requested_by="erik",
            first_person="erik",
            requested_at=now,
        )
        house = BulkMeter(
            bulk_id="bulk-1",
            position=0,
            meter_serial="DS1000-88405",
            gateway_id=village.GATEWAY,
        )
        await store.add_bulk(bulk, [house], Entry(who="erik", what="proposed"))
        budget = Entry(who="erik", what="set")
        await store.set_budget(village.FEEDER, village.GATEWAY, 40_000_000, budget, now)
        await AlarmWatch(store, place.clock, place.site.link).look()
        await place.has_user("asha", Role.ENGINEER)
        browser = place.browser(accept_language=language, user_agent=AGENT)
        assert (await browser.sign_in("asha")).status_code == 303
        yield browser


async def addresses(store: HeadEndStore) -> list[str]:
    """Return the address of every page, with the village's own names in it."""
    alarms = await store.active_alarms()
    names = {
        "feeder_id": village.FEEDER,
        "gateway_id": village.GATEWAY,
        "serial": "DS1000-88405",
        "order": "disconnect",
        "command_id": "cmd-1",
        "reject_id": "1",
        "alarm_id": str(alarms[0].id),
        "bulk_id": "bulk-1",
        "secret": "nothing",
    }
    found = []
    for context in iter_route_contexts(console_routes().routes):
        methods = getattr(context.original_route, "methods", None) or ()
        path = context.path or ""
        places = re.findall(r"{(\w+)}", path)
        path = path.replace("{command_id}/receipt", "cmd-2/receipt").replace(
            "/relay/{order}", "/relay/{order}?reason=unpaid"
        )
        path = path.replace("/bulk/new", f"/bulk/new?feeder={village.FEEDER}&show=all")
        if "GET" in methods and not _FILES.search(path) and set(places) <= set(names):
            found.append(path.format(**names))
    return found


async def known_words(store: HeadEndStore) -> set[str]:
    """Return the words of what people and meters have told: names, reasons, codes, the audit log."""
    told: list[Any] = [await store.audit_links(), await store.rejects(), await store.commands()]
    told += [await store.events(), village.assets(), await store.users(), await store.gateways()]
    told += [await store.bulks(), await store.latest(village.FEEDER, "DS1000-88405"), AGENT]
    # Each language is offered under its own name.
    told += [Locale.parse(language).display_name for language in speech.languages()]
    return {word.lower() for word in _WORD.findall(repr(told))}


async def test_every_word_on_every_page_went_through_a_catalogue(
    village_store: HeadEndStore, brackets: str
) -> None:
    loose: dict[str, set[str]] = {}
    async with console(village_store, brackets) as browser:
        data = await known_words(village_store) | SAME_EVERYWHERE
        pages = await addresses(village_store)
        assert len(pages) > 20
        for address in pages:
            answer = await browser.get(address)
            assert answer.status_code in (200, 303, 410, 422), (address, answer.status_code)
            if answer.status_code == 303:
                continue
            assert is_in(answer.text, brackets), address
            left = set(_WORD.findall(_outside("\n".join(visible_texts(answer.text)))))
            # Capitals are codes: a rule, a time zone, a unit.
            if words := {w for w in left if w.lower() not in data and not w.isupper()}:
                loose[address] = words
    assert not loose, "\n".join(f"{at}: {sorted(words)}" for at, words in loose.items())


def is_in(html: str, language: str) -> bool:
    """Return whether a page says its language and direction; a part of a page has its page's."""
    return not html.startswith("<!doctype") or f'<html lang="{language}" dir="ltr">' in html


def _outside(text: str) -> str:
    """Return what stands outside all brackets; a sentence may have another in it."""
    while (shorter := _BRACKETED.sub(" ", text)) != text:
        text = shorter
    return text


AGENT: Final = "Village Browser"
# Names, units and signs that no language changes.
SAME_EVERYWHERE: Final = {
    *("openami", "utc", "kwh", "csv", "json", "lines", "parquet", "geojson", "api", "obis"),
    # Whose table it is, and what they call it.
    *("africa", "minigrids", "program", "prospect", "installations"),
}


@pytest.mark.parametrize("language", ["fr", "sw", "hi"])
async def test_every_page_is_rendered_in_each_language(
    village_store: HeadEndStore, language: str
) -> None:
    async with console(village_store, language) as browser:
        for address in await addresses(village_store):
            answer = await browser.get(address)
            if answer.status_code != 303:
                assert is_in(answer.text, language), address
                assert "%(" not in " ".join(visible_texts(answer.text)), address
