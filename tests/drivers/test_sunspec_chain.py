"""The walk along a meter's models: over sound chains, broken ones, and ones that end anywhere."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.drivers.sunspec_bench import BASE, END, SUNS, common, meter_203, meter_213, placed

from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Area
from openami.gateway.drivers.modbus.sunspec.chain import (
    BASES,
    MODELS_MAX,
    Chain,
    ChainError,
    Question,
    walk,
)

# An inverter, and a maker's own: of other models only the length is looked at.
_OTHERS = ((103, 50, *[7] * 50), (64_001, 3, 1, 2, 3))


def walked(
    registers: Mapping[int, int], bases: Sequence[int] = BASES
) -> tuple[Chain, list[Question]]:
    """Walk over these registers; return the chain and what was asked."""
    steps = walk(bases)
    asked: list[Question] = []
    question = next(steps)
    while True:
        asked.append(question)
        wanted = range(question.address, question.address + question.count)
        there = all(place in registers for place in wanted)
        try:
            question = steps.send(tuple(registers[place] for place in wanted) if there else None)
        except StopIteration as end:
            chain: Chain = end.value
            return chain, asked


@pytest.mark.parametrize("base", [0, 40_000, 50_000])
def test_a_chain_is_found_at_each_of_the_bases(base: int) -> None:
    chain, asked = walked(placed(common("SN-1"), *_OTHERS, meter_203({}), END, base=base))
    assert chain.base == base
    assert [(link.id, link.length) for link in chain.links] == [
        *((1, 66), (103, 50)),
        *((64_001, 3), (203, 105)),
    ]
    assert chain.links[1].address == base + 2 + 68
    assert (chain.maker, chain.model, chain.serial) == ("Maker", "Model", "SN-1")
    # Each base, each header and the end, and the common model once.
    assert len(asked) == BASES.index(base) + 1 + 5 + 1


def test_a_chain_is_looked_for_where_the_configuration_says() -> None:
    registers = placed(common("SN-1"), meter_203({}), END, base=1000)
    assert walked(registers, [1000])[0].base == 1000
    with pytest.raises(ChainError, match="no SunSpec marker at 40000, 50000, 0"):
        walked(registers)


def test_what_is_not_the_marker_is_not_taken_for_it() -> None:
    registers = dict.fromkeys(range(40_000, 40_200), 0x5375)
    registers |= placed(common("SN-1"), meter_213({}), END, base=50_000)
    assert walked(registers)[0].base == 50_000


@pytest.mark.parametrize("length", [64, 65, 66, 80])
def test_a_common_model_with_or_without_its_pad_tells_the_serial(length: int) -> None:
    body = (*common("SN-1")[2:], *[0] * 14)[:length]
    chain, _ = walked(placed((1, length, *body), meter_203({}), END))
    assert chain.serial == "SN-1"
    assert [link.id for link in chain.links] == [1, 203]


@pytest.mark.parametrize("length", [1, 15, 16, 32, 63])
def test_a_short_common_model_tells_what_it_has_room_for(length: int) -> None:
    chain, _ = walked(placed((1, length, *common("SN-1")[2 : 2 + length]), meter_203({}), END))
    assert chain.serial == ""
    assert chain.maker == ("Maker" if length >= 16 else "")
    assert chain.model == ("Model" if length >= 32 else "")


@pytest.mark.parametrize("end", [END, (0xFFFF,), (), (0xFFFF, 7)])
def test_the_end_may_lack_its_length_or_be_missing(end: tuple[int, ...]) -> None:
    chain, _ = walked(placed(common("SN-1"), meter_203({}), end))
    assert [link.id for link in chain.links] == [1, 203]


def test_a_chain_may_reach_the_last_register() -> None:
    base = 0x10000 - 2 - 68 - 107
    assert walked(placed(common("SN-1"), meter_203({}), base=base), [base])[0].links[-1].id == 203


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([END], "behind the marker at 40000 there is no model"),
        ([meter_203({}), END], "the first model is 203, not 1"),
        ([common("x"), (0, 4, 0, 0, 0, 0), END], "model 0 with 4 registers"),
        ([common("x"), (203, 0), END], "model 203 with 0 registers"),
        ([common("x"), (203, 65_534)], "ends beyond register 65535"),
        ([common("x"), *[(64_000, 1, 0)] * MODELS_MAX, END], f"more than {MODELS_MAX} models"),
    ],
)
def test_a_broken_chain_is_refused_with_its_reason(
    parts: Sequence[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ChainError, match=message):
        walked(placed(*parts))


def test_as_many_models_as_allowed_are_walked() -> None:
    links = walked(placed(common("x"), *[(64_000, 1, 0)] * (MODELS_MAX - 1), END))[0].links
    assert len(links) == MODELS_MAX


def test_a_chain_cut_off_anywhere_is_refused_or_ends_there() -> None:
    """Every length of what the meter has: no model is invented, and none is read beyond the cut by surprise."""
    whole = placed(common("SN-1"), *_OTHERS, meter_203({}), END)
    starts = {BASE + 2: 1, BASE + 70: 103, BASE + 122: 64_001, BASE + 127: 203}
    for cut in range(len(whole)):
        registers = {place: word for place, word in whole.items() if place < BASE + cut}
        try:
            chain, _ = walked(registers)
        except ChainError:
            assert cut < 2 + 66, cut
            continue
        assert {link.address: link.id for link in chain.links} == {
            address: number for address, number in starts.items() if address + 2 <= BASE + cut
        }


@given(st.lists(st.integers(0, 0xFFFF), max_size=400), st.sampled_from(BASES))
def test_no_garbage_leads_the_walk_astray(words: list[int], base: int) -> None:
    """It ends after a bounded number of questions, all within the address space and what one read may ask."""
    registers = dict(enumerate((*SUNS, *words), start=base))
    try:
        _, asked = walked(registers)
    except ChainError:
        return
    assert len(asked) <= len(BASES) + MODELS_MAX + 2
    for question in asked:
        assert question.address - question.before >= 0
        assert question.address + question.count + question.behind <= 0x10000


@given(
    st.integers(0, 0xFFFF),
    st.integers(1, 125),
    st.integers(0, 200),
    st.integers(0, 200),
    st.frozensets(st.integers(1, 125), max_size=125),
)
def test_a_read_is_widened_off_the_shapes_a_late_answer_may_have(
    address: int, count: int, before: int, behind: int, avoided: frozenset[int]
) -> None:
    question = Question(address, count, before, behind)
    block = question.block({(Area.HOLDING, avoid) for avoid in avoided})
    sizes = range(count, min(125, count + before + behind) + 1)
    if block is None:
        assert set(sizes) <= avoided
        return
    assert block.count == min(set(sizes) - avoided)
    assert address - before <= block.address <= address
    assert address + count <= block.address + block.count <= address + count + behind
    words = range(block.address, block.address + block.count)
    assert question.cut(block, words) == tuple(range(address, address + count))


def test_an_undoubted_question_is_asked_as_it_is() -> None:
    assert Question(40_002, 2, 2, 64).block(frozenset()) == Block(Area.HOLDING, 40_002, 2)
