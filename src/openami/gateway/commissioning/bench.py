"""What a scan found, beside the configuration (pure).

A scan knows addresses and, where meters tell them, serial numbers; the configuration knows which meter should have
which address. One place, one verdict.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openami.gateway.config import LineConfig
from openami.gateway.driver import MeterSettings
from openami.gateway.scan.findings import Address, Clash, Found, Noise, PortSetting, ScanResult
from openami.gateway.scan.search import ONE_FOR_ALL
from openami.sip.commissioning import WORDS_CHARS_MAX, BenchFinding, BenchVerdict

# What a meter's table means where it does not say: the drivers' own defaults.
_UNSAID: Final[Mapping[str, int]] = {"client": 16, "server": 1}
# Leaves room for the sentence around it.
_EVIDENCE_CHARS_MAX: Final = WORDS_CHARS_MAX // 2
# What a scan may know of an address and a configuration need not say: who we come as is no place on a line.
_NO_PLACE: Final = frozenset({"client", "address_bytes"})


@dataclass(frozen=True, slots=True)
class ScannedLine:
    """One configured line and what a scan of it found."""

    line: LineConfig
    result: ScanResult
    setting: PortSetting | None = None
    """How the line is configured; None where its meters' maps say, or on a network endpoint."""


def compare(scanned: Sequence[ScannedLine]) -> tuple[BenchFinding, ...]:
    """Return a finding for every configured meter and for everything else that answered."""
    return tuple(finding for each in scanned for finding in _line(each, scanned))


def _line(scanned: ScannedLine, everywhere: Sequence[ScannedLine]) -> Iterator[BenchFinding]:
    line, result = scanned.line, scanned.result
    expected = list(line.settings.meters)
    for meter in expected:
        yield _configured(scanned, meter, everywhere)
    for found in result.meters:
        if not any(_is_found(line, meter, found) for meter in expected):
            yield _unknown(scanned, found, everywhere)
    for clash in result.clashes:
        if not any(_is_at(line, meter, clash.address) for meter in expected):
            yield BenchFinding(
                line=line.settings.name,
                address=_place(clash.address),
                verdict=BenchVerdict.CLASH,
                told=_serials(clash),
                words=f"nothing is configured there, and {_clash_words(clash)}",
                remedy="take the meters off the line one by one, and give each an address of its own",
            )
    for finding in result.findings:
        if isinstance(finding, Noise):
            yield BenchFinding(
                line=line.settings.name,
                address="line",
                verdict=BenchVerdict.UNKNOWN,
                words=f"bytes that are nobody's answer: {finding.remark}",
                remedy="look at speed, parity, termination and shield",
            )


def _configured(
    scanned: ScannedLine, meter: MeterSettings, everywhere: Sequence[ScannedLine]
) -> BenchFinding:
    line, result = scanned.line, scanned.result
    identity = _identity(meter)

    def finding(
        verdict: BenchVerdict,
        *,
        told: str | None = None,
        words: str = "",
        remedy: str = "",
    ) -> BenchFinding:
        return BenchFinding(
            line=line.settings.name,
            address=configured_place(meter),
            verdict=verdict,
            meter=meter.serial,
            told=told,
            words=words,
            remedy=remedy,
        )

    for clash in result.clashes:
        if _is_at(line, meter, clash.address):
            return finding(
                BenchVerdict.CLASH,
                told=_serials(clash),
                words=_clash_words(clash),
                remedy="switch one of the two off and give the other an address that is free",
            )
    for found in result.meters:
        if _is_found(line, meter, found):
            if _is_elsewise_set(scanned, found):
                return finding(
                    BenchVerdict.NOT_FOUND,
                    told=found.serial,
                    words=f"it answers at {found.setting}, the line is configured for {scanned.setting}",
                    remedy="set the meter's speed and parity, or the line's",
                )
            if found.serial is None or identity is None or found.serial == identity:
                words = "" if found.serial and identity else "it was not asked to prove its serial"
                return finding(BenchVerdict.FOUND, told=found.serial, words=words)
            return finding(
                BenchVerdict.WRONG_SERIAL,
                told=found.serial,
                words=f"it says it is {found.serial}, configured is {identity}",
                remedy=_whose(found.serial, everywhere)
                or "correct `identity`, or put the right meter there",
            )
    elsewhere = _where_told(identity, everywhere)
    return finding(
        BenchVerdict.NOT_FOUND,
        words=_untried(result) or "nothing answers at its address",
        remedy=f"it answers at {elsewhere}: correct the address"
        if elsewhere
        else "is it powered, its line the right way round (A and B), its address and speed as configured?",
    )


def _unknown(scanned: ScannedLine, found: Found, everywhere: Sequence[ScannedLine]) -> BenchFinding:
    maps = f"; registers fit {', '.join(found.maps)}" if found.maps else ""
    return BenchFinding(
        line=scanned.line.settings.name,
        address=_place(found.address),
        verdict=BenchVerdict.UNKNOWN,
        told=found.serial,
        words=f"a {found.address.protocol.value} meter that is not configured{maps}",
        remedy=_whose(found.serial, everywhere) or "add it to the configuration, or take it off",
    )


def _whose(serial: str | None, everywhere: Sequence[ScannedLine]) -> str:
    """Name the configured meter whose identity was told somewhere else."""
    if serial is None:
        return ""
    for scanned in everywhere:
        for meter in scanned.line.settings.meters:
            if _identity(meter) == serial:
                return (
                    f"that is {meter.serial}, configured at line {scanned.line.settings.name}, "
                    f"{configured_place(meter)}: exchange the addresses"
                )
    return ""


def _where_told(identity: str | None, everywhere: Iterable[ScannedLine]) -> str:
    """Name the place at which a serial number was told."""
    if identity is None:
        return ""
    for scanned in everywhere:
        for found in scanned.result.meters:
            if found.serial == identity:
                return f"line {scanned.line.settings.name}, {_place(found.address)}"
    return ""


def _is_at(line: LineConfig, meter: MeterSettings, address: Address) -> bool:
    """Whether a found address is a configured meter's."""
    if not address.protocol.value.startswith(line.driver):
        return False
    return all(
        meter.options.get(key, _UNSAID.get(key)) == value
        for key, value in address.options
        if key not in _NO_PLACE
    )


def _is_found(line: LineConfig, meter: MeterSettings, found: Found) -> bool:
    """Whether what was found is a configured meter; one that answers to every unit is at any."""
    if ONE_FOR_ALL in found.remarks:
        return found.address.protocol.value.startswith(line.driver)
    return _is_at(line, meter, found.address)


def _is_elsewise_set(scanned: ScannedLine, found: Found) -> bool:
    return None not in (scanned.setting, found.setting) and scanned.setting != found.setting


def configured_place(meter: MeterSettings) -> str:
    """Name a configured address as its table does."""
    keys = ("unit", "server", "physical", "address", "device_address")
    told = ", ".join(f"{key} {meter.options[key]}" for key in keys if key in meter.options)
    return told or "whoever hears"


def _place(address: Address) -> str:
    return str(address)


def _identity(meter: MeterSettings) -> str | None:
    identity = meter.options.get("identity")
    return None if identity is None else str(identity).strip()


def _serials(clash: Clash) -> str | None:
    return ", ".join(clash.serials)[:WORDS_CHARS_MAX] or None


def _clash_words(clash: Clash) -> str:
    sure = "two meters answer" if clash.certain else "two meters may answer, or the line is bad"
    return f"{sure}: {clash.evidence}"[:_EVIDENCE_CHARS_MAX]


def _untried(result: ScanResult) -> str:
    if not result.untried:
        return ""
    return "not found, and not everything was tried: " + "; ".join(result.untried[:3])
