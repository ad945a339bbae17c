"""Run a program under what a systemd unit forbids it, where no systemd runs.

    python -m tests.operations.sandboxed UNIT PROGRAM …

Of a unit's sandbox the three parts that break a Python program most easily are put on by hand, with the kernel's
own means: no new privileges, no memory both writable and executable, and the filter of system calls. The rest of it
(mounts, devices, capabilities) needs the service manager.
"""

import ctypes
import errno
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

_HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_SET_MDWE = 38, 22, 65
_SECCOMP_MODE_FILTER, _MDWE_REFUSE_EXEC_GAIN = 2, 1
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
# Classic BPF: load a word, jump if equal, return.
_LOAD, _JEQ, _RET = 0x20, 0x15, 0x06


def settings(unit: Path, name: str) -> list[str]:
    """Return a setting's values in a unit, in their order."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def members(group: str) -> set[str]:
    """Return the calls that systemd counts to a group, those of its groups among them."""
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    words = {line.strip() for line in told.splitlines()[1:]} - {""}
    names = {word for word in words if not word.startswith(("#", "@"))}
    return names.union(*(members(word) for word in words if word.startswith("@")))


def allowed(unit: Path) -> set[str]:
    """Return the system calls that a unit allows: its first list allows, later ones add and take away."""
    names: set[str] = set()
    for value in settings(unit, "SystemCallFilter"):
        listed = value.removeprefix("~").split()
        calls = set().union(*(members(w) if w.startswith("@") else {w} for w in listed))
        names = names - calls if value.startswith("~") else names | calls
    return names


def numbers(names: set[str]) -> list[int]:
    """Return the calls' numbers on this machine; a call of another architecture has none."""
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", _HEADER.read_text()))
    return sorted(int(known[name]) for name in names & known.keys())


def main() -> None:
    unit, *command = sys.argv[1:]
    calls = numbers(allowed(Path(unit)))
    program = [(_LOAD, 0, 0, 0)]
    for number in calls:
        program += [(_JEQ, 0, 1, number), (_RET, 0, 0, _RET_ALLOW)]
    program.append((_RET, 0, 0, _RET_ERRNO | errno.EPERM))
    code = b"".join(struct.pack("HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code)
    described = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if settings(Path(unit), "MemoryDenyWriteExecute") == ["yes"]:
        _must(libc.prctl(_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN, 0, 0, 0))
    _must(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0))
    os.execvp(command[0], command)  # noqa: S606 - what this is for


def _must(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
