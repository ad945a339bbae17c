"""A SunSpec meter's registers, and maps of others in the mbmap-2 format: what meters and strangers write."""

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.drivers.sunspec_bench import END, common, meter_203, meter_213, placed
from tests.fuzz.target import Target

from openami.gateway.drivers.modbus.mbmap import CannotImport, import_map
from openami.gateway.drivers.modbus.readings import readings_of
from openami.gateway.drivers.modbus.register_map import read_map
from openami.gateway.drivers.modbus.sunspec.chain import (
    BASES,
    MODELS_MAX,
    Chain,
    ChainError,
    walk,
)
from openami.gateway.drivers.modbus.sunspec.layout import Discovery, layout
from openami.gateway.drivers.modbus.sunspec.models import METERS

_FILES = Path(__file__).parents[1] / "drivers" / "mbmap"
_MBMAP = (_FILES / "meter.json").read_bytes()
_OVERLAY = (_FILES / "overlay.toml").read_bytes()


def sunspec(data: bytes) -> None:
    """ChainError, or a map within the meter's registers, each a value or none; after few questions."""
    data = data[: 2 * 0x10000]
    words = struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1])
    try:
        chain = _walked(words)
        found = layout(chain, Discovery())
    except ChainError as error:
        assert "\n" not in str(error)
        return
    link = next(link for link in chain.links if link.id in METERS)
    end = max(field.end for field in found.fields)
    assert end <= link.address + 2 + link.length
    bank = [*words, *[0] * (end - len(words))]
    fields = {field: bank[field.address : field.end] for field in found.fields}
    readings = readings_of(list(found.registers.values()), fields, {})
    assert len(readings) <= len(found.registers)


def _walked(words: Sequence[int]) -> Chain:
    """Walk over an image that begins at register 0."""
    steps = walk([0])
    question = next(steps)
    for _ in range(len(BASES) + MODELS_MAX + 2):
        assert question.address - question.before >= 0
        assert question.address + question.count + question.behind <= 0x10000
        told = tuple(words[question.address : question.address + question.count])
        try:
            question = steps.send(told if len(told) == question.count else None)
        except StopIteration as end:
            chain: Chain = end.value
            return chain
    raise AssertionError("the walk does not end")


def mbmap_file(data: bytes) -> None:
    """CannotImport with faults of one line each, or a register map that loads."""
    _import(data, _OVERLAY)


def mbmap_overlay(data: bytes) -> None:
    """The same, whatever stands in the overlay."""
    _import(_MBMAP, data)


def _import(mbmap: bytes, overlay: bytes) -> None:
    try:
        imported = import_map(mbmap.decode(errors="replace"), overlay.decode(errors="replace"))
    except CannotImport as error:
        assert error.faults
        for fault in error.faults:
            assert "\n" not in str(fault), str(fault)
        return
    assert len(read_map(imported.text).registers) == imported.registers
    imported.text.encode()
    for remark in imported.remarks:
        assert "\n" not in remark


def _image(*parts: tuple[int, ...]) -> bytes:
    words = placed(*parts, base=0).values()
    return struct.pack(f">{len(words)}H", *words)


_SUNSPEC = (
    _image(common("SN-1"), meter_203({3: 4130, 6: -3, 46: 1, 54: 0}), END),
    _image(common("SN-1", 65), (103, 3, 0, 0, 0), meter_213({4: 4.13, 68: 1.0}), END),
)

TARGETS = (
    Target("sunspec", sunspec, lambda: _SUNSPEC, 150),
    Target("mbmap_file", mbmap_file, lambda: (_MBMAP,), 100),
    Target("mbmap_overlay", mbmap_overlay, lambda: (_OVERLAY,), 100),
)
