"""What makes a measurement doubtful, and what to do about it. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Across PCIe to the fastest memory that keeps its content and back takes some ten microseconds; who is quicker
# has not been there.
SYNC_CREDIBLE_MIN_S: Final = 10e-6
# Drives with a protected cache answer in twenty to eighty; so does a virtual disk whose host only remembers.
SYNC_PLAIN_MIN_S: Final = 100e-6
# Of all cores, in use by others meanwhile: more, and the figures are theirs as well as ours.
OTHERS_SHARE_MAX: Final = 0.2
# Taken by the host while we would have run: more than this is felt.
STEAL_SHARE_MAX: Final = 0.02
# Runnable at the start for each core, over a minute: more, and every figure had to queue.
LOAD_PER_CORE_MAX: Final = 0.5

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_ELSEWHERE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"})


class DoubtCode(StrEnum):
    """The stable codes of a doubt."""

    DISK_IN_MEMORY = "DISK_IN_MEMORY"
    DISK_OF_CONTAINER = "DISK_OF_CONTAINER"
    DISK_ELSEWHERE = "DISK_ELSEWHERE"
    SYNC_IMPOSSIBLY_FAST = "SYNC_IMPOSSIBLY_FAST"
    SYNC_UNPROVEN = "SYNC_UNPROVEN"
    MACHINE_BUSY = "MACHINE_BUSY"
    TIME_STOLEN = "TIME_STOLEN"
    FEW_READINGS = "FEW_READINGS"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a figure should not be relied on, with what to do."""

    code: DoubtCode
    text: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a measurement was made; None where the machine does not tell."""

    filesystem: str | None
    cores: int
    load_before: float | None
    """Runnable threads over the minute before."""
    others_share: float | None
    """Of all cores' time, what others than this program used; None also where a database server is part of it."""
    steal_share: float | None


def doubts(conditions: Conditions, *, sync_p50_s: float) -> list[Doubt]:
    """Return what speaks against the figures; empty for a quiet machine with an ordinary disk."""
    return [*_about_the_disk(conditions.filesystem, sync_p50_s), *_about_the_machine(conditions)]


def _about_the_disk(filesystem: str | None, sync_p50_s: float) -> list[Doubt]:
    if filesystem in _IN_MEMORY:
        return [
            Doubt(
                DoubtCode.DISK_IN_MEMORY,
                f"the directory is memory ({filesystem}): what is stored there is gone with the power; "
                "name one on the store's disk with --directory",
            )
        ]
    found = []
    if filesystem == "overlay":
        found.append(
            Doubt(
                DoubtCode.DISK_OF_CONTAINER,
                "the directory belongs to a container and goes with it; mount a volume and name it",
            )
        )
    if filesystem in _ELSEWHERE:
        found.append(
            Doubt(
                DoubtCode.DISK_ELSEWHERE,
                f"the directory is on another machine ({filesystem}): SQLite's write-ahead log does not work "
                "across a network; use a disk of this machine, or PostgreSQL",
            )
        )
    took = f"a sync takes {sync_p50_s * 1e6:.0f} µs"
    if sync_p50_s < SYNC_CREDIBLE_MIN_S:
        found.append(
            Doubt(
                DoubtCode.SYNC_IMPOSSIBLY_FAST,
                f"{took}, which no disk does: something only says that it has synced, and a power cut will take "
                "acknowledged readings; look for libeatmydata, mount options and the virtual disk's cache mode",
            )
        )
    elif sync_p50_s < SYNC_PLAIN_MIN_S:
        found.append(
            Doubt(
                DoubtCode.SYNC_UNPROVEN,
                f"{took}: as fast as a drive with a protected cache, or a virtual disk that only remembers; "
                "find out which it is (cache mode none or writethrough)",
            )
        )
    return found


def _about_the_machine(conditions: Conditions) -> list[Doubt]:
    found = []
    load, others, steal = conditions.load_before, conditions.others_share, conditions.steal_share
    busy_before = load is not None and load > LOAD_PER_CORE_MAX * conditions.cores
    if busy_before or (others is not None and others > OTHERS_SHARE_MAX):
        found.append(
            Doubt(
                DoubtCode.MACHINE_BUSY,
                f"others used the machine (load before: {_said(load, '.1f')}, their share of the cores meanwhile: "
                f"{_said(others, '.0%')}): the figures are too low; measure again when it is quiet",
            )
        )
    if steal is not None and steal > STEAL_SHARE_MAX:
        found.append(
            Doubt(
                DoubtCode.TIME_STOLEN,
                f"the host took {steal:.0%} of the processor's time: a virtual machine with neighbours; "
                "measure at another hour, and reckon with the worst",
            )
        )
    return found


def _said(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
