"""Blocks: every wanted field is covered, no limit is broken, no doubtful shape is asked."""

from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.drivers.modbus.map_files import load_map, shipped_maps
from openami.gateway.drivers.modbus.plan import Block, Shape, plan, sync_block
from openami.gateway.drivers.modbus.register_map import (
    Area,
    Field,
    Limits,
    NumberType,
    WordOrder,
)


def _field(area: Area, address: int, kind: NumberType) -> Field:
    return Field(area, address, kind.words, kind, WordOrder.BIG)


_KINDS = st.sampled_from([NumberType.U16, NumberType.I32, NumberType.U64])
_FIELDS = st.builds(_field, st.sampled_from(Area), st.integers(0, 60), _KINDS)
_KNOWN = st.sets(_FIELDS, min_size=1, max_size=14).map(lambda fields: tuple(sorted(fields)))
_LIMITS = st.builds(
    lambda most, gap: Limits(max_read_registers=most, max_gap=gap),
    st.integers(4, 40),
    st.integers(0, 20),
)
_SHAPES = st.frozensets(st.tuples(st.sampled_from(Area), st.integers(1, 12)), max_size=12)


def _unknown_gap(block: Block, known: tuple[Field, ...]) -> int:
    """Return the longest run of registers inside the block that no known field holds."""
    held = {
        address
        for field in known
        if field.area is block.area
        for address in range(field.address, field.end)
    }
    longest = run = 0
    for address in range(block.address, block.address + block.count):
        run = 0 if address in held else run + 1
        longest = max(longest, run)
    return longest


@given(st.data(), _KNOWN, _LIMITS, _SHAPES)
def test_a_plan_keeps_everything_it_promises(
    data: st.DataObject, known: tuple[Field, ...], limits: Limits, avoid: frozenset[Shape]
) -> None:
    wanted = frozenset(data.draw(st.sets(st.sampled_from(known), min_size=1)))
    blocks = plan(wanted, known=known, limits=limits, avoid=avoid)
    if blocks is None:
        assert avoid
        return
    for field in wanted:
        assert any(block.covers(field) for block in blocks)
    for block in blocks:
        assert block.count <= limits.max_read_registers
        assert block.shape not in avoid
        assert _unknown_gap(block, known) <= limits.max_gap
        assert any(block.covers(field) for field in wanted), "a block nobody asked for"


@given(_KNOWN, _LIMITS)
def test_nothing_to_avoid_means_there_is_a_plan(known: tuple[Field, ...], limits: Limits) -> None:
    blocks = plan(frozenset(known), known=known, limits=limits)
    assert blocks is not None
    assert len(blocks) <= len(known)


@given(_KNOWN, _LIMITS, _SHAPES)
def test_a_sync_read_is_the_smallest_that_cannot_be_mistaken(
    known: tuple[Field, ...], limits: Limits, avoid: frozenset[Shape]
) -> None:
    block = sync_block(known, limits=limits, avoid=avoid)
    single = [
        (field.area, field.count) for field in known if (field.area, field.count) not in avoid
    ]
    if block is None:
        assert not single
        return
    assert block.shape not in avoid
    assert any(block.covers(field) for field in known)
    if single:
        assert block.count <= min(count for _, count in single)


def _run(*addresses: int) -> tuple[Field, ...]:
    return tuple(_field(Area.INPUT, address, NumberType.U32) for address in addresses)


def test_neighbours_are_read_together_up_to_the_gap() -> None:
    known = _run(0, 2, 8, 20)
    assert plan(frozenset(known), known=known, limits=Limits(max_gap=4)) == (
        Block(Area.INPUT, 0, 10),
        Block(Area.INPUT, 20, 2),
    )
    assert plan(frozenset(known), known=known, limits=Limits(max_gap=3)) == (
        Block(Area.INPUT, 0, 4),
        Block(Area.INPUT, 8, 2),
        Block(Area.INPUT, 20, 2),
    )


def test_one_read_is_not_longer_than_the_meter_allows() -> None:
    known = _run(0, 2, 4)
    whole = plan(frozenset(known), known=known, limits=Limits(max_read_registers=6))
    assert whole == (Block(Area.INPUT, 0, 6),)
    cut = plan(frozenset(known), known=known, limits=Limits(max_read_registers=5))
    assert cut is not None
    assert [block.count for block in cut] == [2, 4]


def test_only_what_is_wanted_is_read() -> None:
    known = _run(0, 2, 4, 6)
    assert plan(frozenset(known[1:2]), known=known, limits=Limits()) == (Block(Area.INPUT, 2, 2),)


def test_a_doubtful_shape_is_cut_or_widened() -> None:
    known = _run(0, 2, 4)
    cut = plan(frozenset(known), known=known, limits=Limits(), avoid=frozenset({(Area.INPUT, 6)}))
    assert cut is not None
    assert sorted(block.count for block in cut) == [2, 4]
    widened = plan(
        frozenset(known[2:]), known=known, limits=Limits(), avoid=frozenset({(Area.INPUT, 2)})
    )
    assert widened == (Block(Area.INPUT, 2, 4),)


def test_a_field_with_no_shape_left_is_not_read() -> None:
    known = _run(0)
    avoid = frozenset({(Area.INPUT, 2)})
    assert plan(frozenset(known), known=known, limits=Limits(), avoid=avoid) is None
    assert sync_block(known, limits=Limits(), avoid=avoid) is None


def test_every_shipped_map_has_shapes_to_turn_to() -> None:
    """Two unanswered questions in a row leave a way to come into step again."""
    for name in shipped_maps():
        register_map = load_map(name)
        avoid: frozenset[Shape] = frozenset()
        for _ in range(3):
            block = sync_block(register_map.fields, limits=register_map.limits, avoid=avoid)
            assert block is not None, name
            avoid |= {block.shape}
