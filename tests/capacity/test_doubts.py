"""What is said against figures, one step to either side of each edge."""

from typing import Any

import pytest

from openami.capacity.doubts import Conditions, DoubtCode, doubts

QUIET: dict[str, Any] = {
    "filesystem": "ext4",
    "cores": 2,
    "load_before": 1.0,
    "others_share": 0.2,
    "steal_share": 0.02,
}
ORDINARY_S = 100e-6


def codes(sync_p50_s: float = ORDINARY_S, **changed: Any) -> list[DoubtCode]:
    conditions = Conditions(**(QUIET | changed))
    return [doubt.code for doubt in doubts(conditions, sync_p50_s=sync_p50_s)]


def test_nothing_is_said_against_a_quiet_machine_with_an_ordinary_disk() -> None:
    assert codes() == []


def test_nothing_is_made_up_where_the_machine_tells_nothing() -> None:
    assert codes(filesystem=None, load_before=None, others_share=None, steal_share=None) == []


@pytest.mark.parametrize(
    ("sync_p50_s", "expected"),
    [
        (0.9e-6, [DoubtCode.SYNC_IMPOSSIBLY_FAST]),
        (9.9e-6, [DoubtCode.SYNC_IMPOSSIBLY_FAST]),
        (10e-6, [DoubtCode.SYNC_UNPROVEN]),
        (99e-6, [DoubtCode.SYNC_UNPROVEN]),
        (100e-6, []),
    ],
)
def test_a_sync_faster_than_any_disk(sync_p50_s: float, expected: list[DoubtCode]) -> None:
    assert codes(sync_p50_s) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"load_before": 1.01}, DoubtCode.MACHINE_BUSY),
        ({"others_share": 0.21}, DoubtCode.MACHINE_BUSY),
        ({"steal_share": 0.021}, DoubtCode.TIME_STOLEN),
        ({"filesystem": "tmpfs"}, DoubtCode.DISK_IN_MEMORY),
        ({"filesystem": "overlay"}, DoubtCode.DISK_OF_CONTAINER),
        ({"filesystem": "nfs4"}, DoubtCode.DISK_ELSEWHERE),
    ],
)
def test_each_condition_has_its_doubt(changed: dict[str, Any], expected: DoubtCode) -> None:
    assert codes(**changed) == [expected]


def test_memory_is_not_also_called_a_fast_disk() -> None:
    assert codes(1e-6, filesystem="tmpfs") == [DoubtCode.DISK_IN_MEMORY]
