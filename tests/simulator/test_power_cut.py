"""What a power cut leaves of a file: any part of what was not synced, and all that was."""

from random import Random

import pytest

from openami.simulator.power_cut import SECTOR_BYTES, Content, CutReport

TWO = b"x" * SECTOR_BYTES + b"y" * SECTOR_BYTES


def left(content: Content, *, kept_share: float = 0.5, cuts: int = 200) -> set[bytes]:
    """Return all that many cuts find."""
    return {bytes(content.after_cut(Random(n), kept_share, CutReport())) for n in range(cuts)}


def test_what_was_synced_is_all_there() -> None:
    content = Content(bytearray(b"old"))
    content.unsynced += [(0, b"new"), (3, b" and more"), (7, None)]
    content.sync()
    assert not content.unsynced
    assert left(content) == {b"new and"}


def test_of_two_writes_any_may_be_there() -> None:
    content = Content(bytearray(b"aabb"))
    content.unsynced += [(0, b"AA"), (2, b"BB")]
    assert left(content) == {b"aabb", b"AAbb", b"aaBB", b"AABB"}


def test_a_later_write_may_be_there_and_an_earlier_not() -> None:
    content = Content(bytearray())
    content.unsynced += [(0, b"AA"), (2, b"BB"), (0, b"CC")]
    assert b"\0\0BB" in left(content)
    assert b"AABB" in left(content)
    assert not {found for found in left(content) if found[:2] == b"CA"}


def test_a_write_over_two_sectors_may_be_torn_between_them_alone() -> None:
    content = Content(bytearray())
    content.unsynced.append((0, TWO))
    first, second = TWO[:SECTOR_BYTES], bytes(SECTOR_BYTES) + TWO[SECTOR_BYTES:]
    assert left(content) == {b"", TWO, first, second}


def test_sectors_are_the_disks_and_not_the_writes() -> None:
    content = Content(bytearray(4))
    content.unsynced.append((4, TWO))
    sizes = {len(found) for found in left(content)}
    assert sizes == {4, SECTOR_BYTES, 2 * SECTOR_BYTES, 2 * SECTOR_BYTES + 4}


def test_a_write_within_a_sector_is_never_torn() -> None:
    content = Content(bytearray())
    content.unsynced.append((0, TWO[:SECTOR_BYTES]))
    assert left(content) == {b"", TWO[:SECTOR_BYTES]}


@pytest.mark.parametrize(("share", "found"), [(0.0, b"old"), (1.0, b"n")])
def test_a_file_that_was_cut_short_may_be_long_again(share: float, found: bytes) -> None:
    content = Content(bytearray(b"old"))
    content.unsynced += [(0, b"n"), (1, None)]
    assert left(content, kept_share=share) == {found}
    assert left(content) == {b"old", b"nld", b"o", b"n"}
