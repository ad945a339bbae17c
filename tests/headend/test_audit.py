"""The audit log's chain: whatever is changed in it, the first entry that does not hold is named."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.headend.audit import (
    GENESIS,
    AuditFileError,
    Entry,
    Link,
    first_break,
    link,
    print_link,
    read_links,
)

NOW = datetime(2026, 6, 22, 14, 30, 5, tzinfo=UTC)


def a_chain(count: int = 6) -> list[Link]:
    links: list[Link] = []
    previous = GENESIS
    for number in range(1, count + 1):
        entry = Entry(who="anita", what=f"did {number}", why="മണി", command_id=f"c-{number}")
        links.append(link(entry, number=number, at=NOW, previous=previous))
        previous = links[-1].hash
    return links


def test_a_chain_as_it_was_written_is_sound() -> None:
    assert first_break([]) is None
    assert first_break(a_chain()) is None


def changed(name: str) -> Callable[[list[Link]], list[Link]]:
    """Return what writes another text into a member of the third entry."""

    def tamper(chain: list[Link]) -> list[Link]:
        third = chain[2]
        members = {**asdict(third.entry), name: "x"}
        return [*chain[:2], replace(third, entry=Entry(**members)), *chain[3:]]

    return tamper


MEMBERS = ("who", "what", "why", "result", "session_id", "command_id", "digest")
TAMPERED: dict[str, tuple[Callable[[list[Link]], list[Link]], int]] = {
    **{f"{name} changed": (changed(name), 3) for name in MEMBERS},
    "time changed": (lambda c: [*c[:2], replace(c[2], at="2020-01-01T00:00:00Z"), *c[3:]], 3),
    "hash changed": (lambda c: [*c[:2], replace(c[2], hash="0" * 64), *c[3:]], 3),
    "removed": (lambda c: [*c[:2], *c[3:]], 3),
    "first removed": (lambda c: c[1:], 1),
    "doubled": (lambda c: [*c[:3], *c[2:]], 4),
    "exchanged": (lambda c: [*c[:2], c[3], c[2], *c[4:]], 3),
    "renumbered after a removal": (
        lambda c: [*c[:2], *(replace(each, number=each.number - 1) for each in c[3:])],
        3,
    ),
    "written anew from there on, but not the rest": (
        lambda c: [
            *c[:2],
            link(Entry(who="m", what="x"), number=3, at=NOW, previous=c[1].hash),
            *c[3:],
        ],
        4,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tamper", "at"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_is_found_at_its_place(
    tamper: Callable[[list[Link]], list[Link]], at: int
) -> None:
    broken = first_break(tamper(a_chain()))
    assert broken is not None
    assert broken.number == at


@given(st.data())
def test_any_changed_byte_of_an_exported_log_is_found(data: st.DataObject) -> None:
    text = "\n".join(print_link(each) for each in a_chain(3)).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(0x20, 0x7E).filter(lambda b: b != text[at]))
    text_then = (text[:at] + bytes([byte]) + text[at + 1 :]).decode(errors="replace")
    try:
        links = list(read_links(text_then.split("\n")))
    except AuditFileError:
        return
    # What reads as before (white space between members) is as before.
    assert first_break(links) is not None or links == a_chain(3)


def test_a_log_comes_back_from_a_file_as_it_was() -> None:
    links = a_chain()
    assert list(read_links(print_link(each) for each in links)) == links


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        print_link(a_chain(1)[0])[:-1],
        json.dumps({**json.loads(print_link(a_chain(1)[0])), "more": "x"}),
        json.dumps({**json.loads(print_link(a_chain(1)[0])), "who": 7}),
        json.dumps({**json.loads(print_link(a_chain(1)[0])), "number": True}),
    ],
)
def test_a_line_that_is_no_entry_is_named(line: str) -> None:
    with pytest.raises(AuditFileError, match="line 2"):
        list(read_links([print_link(a_chain(1)[0]), line]))
