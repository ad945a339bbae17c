"""Messages in the shape the reference firmware documents. Made here by its shapes, not recorded from a pole.

Names, members, units, rounds and stamps are those its source and texts describe (meshems-openami-metering);
the values are those of a simulated house. A pole here is what the firmware is: it polls every ten seconds,
publishes a round every five minutes, and repeats what it read last.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

POLE = "StreetPoleEMS_37EAB0"
START = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
ROUND_S = 300.0
# How long a poll of three meters is past when the round is sent.
POLL_AGE_MS = 8_000


def float32(value: float) -> float:
    """Return the value as the firmware's 32-bit float carries it."""
    narrow: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return narrow


def signed32(milliseconds: int) -> int:
    """Return milliseconds since boot as its `long` prints them."""
    return (milliseconds + 2**31) % 2**32 - 2**31


def as_payload(members: dict[str, Any]) -> bytes:
    """Return members as ArduinoJson prints them."""
    return json.dumps(members, separators=(",", ":")).encode()


def meter(uptime_ms: int, number: int = 0, **measured: Any) -> dict[str, Any]:
    """Return one meter's message, "model 11"."""
    zeros = ["VA", "Var", "TotVarhImport", "TotVarhExport", "TotAh", "Tot15mWhImport"]
    zeros += ["Tot15mWhExport", "TotHrWhImport", "TotHrWhExport", "TotDayWhImport"]
    zeros += ["TotDayWhExport", "THD_A", "THD_V"]
    house = {"PhV": 230.1, "PhA": 2.83, "PhW": 617, "PF": 0.95, "Hz": 50.02}
    energy = {"TotWhImport": 1900000, "TotWhExport": 0}
    return (
        {"model_id": 11, "length": 107, "Phase": number}
        | house
        | dict.fromkeys(zeros, 0)
        | energy
        | measured
        | {"timestamp": signed32(uptime_ms)}
    )


def panel(uptime_ms: int, **measured: Any) -> dict[str, Any]:
    """Return the panel's message, "model 213": one meter on phase A, as one build sends it."""
    members: dict[str, Any] = {"model_id": 213, "length": 85, "Hz": 50.02}
    for stem in ("Aph", "PhVph", "PFph", "Varph", "VAph", "Wph", "THD_Vph", "THD_Iph"):
        members |= {f"{stem}{phase}": 0 for phase in "ABC"}
    for scope in ("Hr", "TOUC", "Day", ""):
        members |= {f"Tot{scope}WhImport": 0, f"Tot{scope}WhExport": 0}
    one = {"PhVphA": 230.1, "AphA": 2.83, "WphA": 617, "PFphA": 0.95, "TotWhImport": 1900000}
    return members | one | measured | {"timestamp": signed32(uptime_ms)}


def cabinet(uptime_ms: int, **measured: Any) -> dict[str, Any]:
    """Return the cabinet's message, "model 998"."""
    return (
        {
            "model_id": 998,
            "location_text": "",
            "latitude_deg": 0,
            "longitude_deg": 0,
            "altitude_m": 0,
            "temperature_C": 31.4,
            "humidity_percent": 62.5,
            "door_open": False,
            "door_open_duration_ms": 0,
            "timestamp_ms": uptime_ms % 2**32,
            "last_modbus_update_ms": uptime_ms % 2**32,
            "last_gpio_update_ms": 0,
        }
        | measured
        | {"timestamp": signed32(uptime_ms)}
    )


def nameplate(uptime_ms: int, **members: Any) -> dict[str, Any]:
    """Return the nameplate's message, model 1."""
    said = {"Mn": "NESL", "Md": "EMS", "Opt": "3 meters", "Vr": "1.0.2", "SN": "0001", "DA": 1}
    return (
        {"model_id": 1, "length": 66}
        | said
        | {"ALARMS": 0}
        | members
        | {"timestamp": signed32(uptime_ms)}
    )


def leakage(uptime_ms: int, **milliamperes: float) -> dict[str, Any]:
    """Return the leakage relay's message, "model 999"."""
    parts = {
        kind: {
            "value_mA": milliamperes.get(kind, 0),
            "threshold_mA": 30,
            "lastFaultValue_mA": 0,
            "lastFaultTimeMs": 0,
            "inFault": False,
        }
        for kind in ("acSinusoidal", "acPulsating", "dc")
    }
    return {"model_id": 999} | parts | {"timestamp": signed32(uptime_ms)}


def harmonics(uptime_ms: int) -> dict[str, Any]:
    """Return the harmonics' message: 90 zeros."""
    rows = {f"Harmonics_{kind}ph{phase}": [0] * 15 for kind in "VI" for phase in "ABC"}
    return {"model_id": 213, "length": 180} | rows | {"timestamp": signed32(uptime_ms)}


def traffic(uptime_ms: int) -> dict[str, Any]:
    """Return the count of bytes sent, stamped with the seconds since boot of a clock that begins at 1970."""
    counts = {"interval_ms": 300000, "pubout_count": 9, "payload_bytes": 4200}
    return (
        counts
        | {"tcpip_bytes": 4740, "avg_bps_out": 126}
        | {"timestamp": uptime_ms % 2**32 // 1000}
    )


@dataclass
class House:
    """What a meter measures; it moves a little from poll to poll, as a real one does."""

    power_w: float = 617.0
    import_wh: float = 1_842_500.0
    polls: int = 0

    def measured(self, elapsed_s: float) -> dict[str, float]:
        """Return what a poll reads after some more seconds."""
        self.polls += 1
        self.import_wh += self.power_w * elapsed_s / 3600
        voltage = 229.6 + (self.polls * 7 % 11) / 10
        return {
            "PhV": float32(voltage),
            "PhA": float32(round(self.power_w / voltage / 0.95, 2)),
            "PhW": float32(self.power_w),
            "PF": float32(0.95),
            "Hz": float32(49.97 + (self.polls * 3 % 7) / 100),
            "TotWhImport": float32(round(self.import_wh / 10) * 10),
        }


@dataclass
class FirmwarePole:
    """A pole that publishes its rounds: topic, payload, and when."""

    name: str = POLE
    meters: int = 3
    booted_at: datetime = START - timedelta(hours=2)
    delay_s: float = 0.05
    houses: list[House] = field(default_factory=list)
    answering: bool = True
    """Whether its meters answer: what they told last is repeated, with a new stamp, when they do not."""
    told: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.houses = [House(power_w=200.0 + 150 * n) for n in range(self.meters)]
        self.told = [{} for _ in range(self.meters)]

    def uptime_ms(self, now: datetime) -> int:
        """Return the milliseconds since boot."""
        return int((now - self.booted_at).total_seconds() * 1000)

    def round(self, now: datetime) -> Iterator[tuple[str, bytes, datetime]]:
        """Yield a round's messages in the firmware's order, with the time at which each arrives."""
        uptime_ms = self.uptime_ms(now)
        polled_ms = uptime_ms - POLL_AGE_MS
        if self.answering:
            self.told = [house.measured(ROUND_S) for house in self.houses]
        messages: list[tuple[str, dict[str, Any]]] = [
            ("subpanel_MFR", nameplate(uptime_ms)),
            ("subpanel_ENV", cabinet(uptime_ms)),
            ("subpanel_3Ph", panel(polled_ms, **self._on_phase_a())),
            ("subpanel_RCMleaks", leakage(polled_ms)),
            ("subpanel_harmonics", harmonics(uptime_ms)),
        ]
        messages += [
            (f"meter_{n}", meter(polled_ms, n, **told)) for n, told in enumerate(self.told)
        ]
        messages.append(("subpanel_BWPubOut", traffic(uptime_ms)))
        for n, (name, members) in enumerate(messages):
            arrives = now + timedelta(seconds=self.delay_s * (n + 1))
            yield f"openami/{self.name}/{name}", as_payload(members), arrives

    def _on_phase_a(self) -> dict[str, float]:
        told = self.told[0]
        names = {"PhV": "PhVphA", "PhA": "AphA", "PhW": "WphA", "PF": "PFphA", "Hz": "Hz"}
        return {names.get(name, name): value for name, value in told.items()}
