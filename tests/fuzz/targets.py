"""All targets by name, and the corpus: the seeds that live nowhere else, and every input that ever failed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.fuzz import (
    bridge_targets,
    commissioning_targets,
    configuration_targets,
    conformance_targets,
    dlms_targets,
    headend_targets,
    http_targets,
    iec62056_targets,
    key_targets,
    modbus_targets,
    profile_targets,
    report_targets,
    scan_targets,
    sip_targets,
    sunspec_targets,
)
from tests.fuzz.target import Target

CORPUS: Final = Path(__file__).parent / "corpus"

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for module in (
        profile_targets,
        sip_targets,
        configuration_targets,
        modbus_targets,
        dlms_targets,
        iec62056_targets,
        key_targets,
        http_targets,
        headend_targets,
        conformance_targets,
        bridge_targets,
        report_targets,
        scan_targets,
        commissioning_targets,
        sunspec_targets,
    )
    for target in module.TARGETS
}


def kept(name: str) -> Sequence[Path]:
    """Return the files of a target's corpus, by name."""
    return sorted((CORPUS / name).glob("*"))


def sound(target: Target) -> Sequence[bytes]:
    """Return what a run starts from: the target's seeds and its corpus."""
    return [*target.seeds(), *(file.read_bytes() for file in kept(target.name))]
