"""Two network namespaces and a wire between them, that can be cut, silenced and narrowed. Root's."""

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest
from tests.tools import require_tool

# The range for benchmarks of network devices (RFC 2544): no real network has it. Four addresses for each process.
_RANGE = ipaddress.ip_network("198.18.0.0/15")


@dataclass(frozen=True, slots=True)
class Wire:
    """A pair of virtual network cards: ours, and the one in the operator's namespace."""

    ours: str
    theirs: str
    namespace: str
    host: str
    """The operator's address as we see it."""

    @property
    def within(self) -> Sequence[str]:
        """What goes before a command to run it on the operator's side."""
        return (str(require_tool("ip")), "netns", "exec", self.namespace)

    def cut(self) -> None:
        """Pull the cable out: both ends see it."""
        _run("ip", "-n", self.namespace, "link", "set", self.theirs, "down")

    def mend(self) -> None:
        """Put it back."""
        _run("ip", "-n", self.namespace, "link", "set", self.theirs, "up")

    @contextmanager
    def silenced(self) -> Iterator[str]:
        """Drop every packet in both directions: no end is told. Yields by what."""
        for how in _SILENCERS:
            if all(_can(*each) for each in how.begin(self)):
                break
            _undo(how.end(self))
        else:
            pytest.skip("no nftables, iptables or tc that drops packets in this kernel")
        try:
            yield how.name
        finally:
            _undo(how.end(self))

    @contextmanager
    def like_2g(self) -> Iterator[str]:
        """Give the wire the delay, loss and rate of 2G; the rate alone where there is no netem. Yields which."""
        ends = ((self.ours, ()), (self.theirs, ("-n", self.namespace)))
        netem = ("netem", "delay", "350ms", "100ms", "loss", "5%", "rate", "20kbit", "limit", "200")
        bucket = ("tbf", "rate", "20kbit", "burst", "1600", "latency", "3s")
        for discipline in (netem, bucket):
            if all(
                _can("tc", *at, "qdisc", "add", "dev", d, "root", *discipline) for d, at in ends
            ):
                break
        else:
            pytest.skip("neither sch_netem nor sch_tbf in this kernel")
        try:
            yield discipline[0]
        finally:
            _undo([("tc", *at, "qdisc", "del", "dev", d, "root") for d, at in ends])


@dataclass(frozen=True, slots=True)
class _Silencer:
    name: str

    def begin(self, wire: Wire) -> Sequence[Sequence[str]]:
        match self.name:
            case "nft":
                there = ("ip", "netns", "exec", wire.namespace, "nft", "add")
                chain = "{ type filter hook %s priority 0; policy drop; }"
                return [
                    (*there, "table", "inet", "cut"),
                    (*there, "chain", "inet", "cut", "in", chain % "input"),
                    (*there, "chain", "inet", "cut", "out", chain % "output"),
                ]
            case "iptables":
                there = ("ip", "netns", "exec", wire.namespace, "iptables", "-A")
                return [
                    (*there, "INPUT", "-i", wire.theirs, "-j", "DROP"),
                    (*there, "OUTPUT", "-o", wire.theirs, "-j", "DROP"),
                ]
            case _:
                # tbf lets nothing pass that is larger than its bucket, and no packet is as small as 40 bytes.
                drop = {
                    "netem": ("netem", "loss", "100%"),
                    "tbf": ("tbf", "rate", "8kbit", "burst", "40", "latency", "1ms"),
                }[self.name]
                return [
                    ("tc", "qdisc", "add", "dev", wire.ours, "root", *drop),
                    ("tc", "-n", wire.namespace, "qdisc", "add", "dev", wire.theirs, "root", *drop),
                ]

    def end(self, wire: Wire) -> Sequence[Sequence[str]]:
        match self.name:
            case "nft":
                there = ("ip", "netns", "exec", wire.namespace, "nft")
                return [(*there, "delete", "table", "inet", "cut")]
            case "iptables":
                return [("ip", "netns", "exec", wire.namespace, "iptables", "-F")]
            case _:
                return [
                    ("tc", "qdisc", "del", "dev", wire.ours, "root"),
                    ("tc", "-n", wire.namespace, "qdisc", "del", "dev", wire.theirs, "root"),
                ]


_SILENCERS = tuple(_Silencer(name) for name in ("nft", "iptables", "netem", "tbf"))


@contextmanager
def wire() -> Iterator[Wire]:
    """Make the operator's namespace and the wire to it; both are gone afterwards."""
    for tool in ("ip", "tc"):
        require_tool(tool)
    number = os.getpid() % (_RANGE.num_addresses // 4)
    mark, first = f"oa{number}", _RANGE[4 * number]
    made = Wire(f"{mark}a", f"{mark}b", f"{mark}ns", str(first + 2))
    if not _can("ip", "netns", "add", made.namespace):
        reason = "a network namespace cannot be made: that needs root"
        if os.environ.get("OPENAMI_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        there = ("ip", "-n", made.namespace)
        _run(
            "ip",
            "link",
            "add",
            made.ours,
            "type",
            "veth",
            "peer",
            made.theirs,
            "netns",
            made.namespace,
        )
        _run("ip", "addr", "add", f"{first + 1}/30", "dev", made.ours)
        _run(*there, "addr", "add", f"{made.host}/30", "dev", made.theirs)
        _run("ip", "link", "set", made.ours, "up")
        _run(*there, "link", "set", made.theirs, "up")
        _run(*there, "link", "set", "lo", "up")
        yield made
    finally:
        _undo([("ip", "link", "del", made.ours), ("ip", "netns", "del", made.namespace)])


def _undo(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        _can(*command)


def _can(*words: str) -> bool:
    with suppress(FileNotFoundError):
        return subprocess.run(_found(words), capture_output=True, check=False).returncode == 0
    return False


def _run(*words: str) -> None:
    subprocess.run(_found(words), capture_output=True, check=True)


def _found(words: Sequence[str]) -> Sequence[str]:
    return [shutil.which(words[0], path="/usr/sbin:/sbin:/usr/bin:/bin") or words[0], *words[1:]]
