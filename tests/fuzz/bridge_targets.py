"""What the bridge reads from a broker that asks nobody who he is: a topic, a line end, and the payload."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from tests.bridge.bridged import Bridged
from tests.bridge.firmware_samples import (
    POLE,
    as_payload,
    cabinet,
    harmonics,
    leakage,
    meter,
    nameplate,
    panel,
)
from tests.bridge.test_config import WHOLE
from tests.fuzz.target import Target, directory

from openami.bridge.config import ConfigError, read_config
from openami.bridge.findings import DETAIL_CHARS_MAX
from openami.headend.ingest import Accepted, Message, ingest
from openami.profile import shipped_catalogue


def bridge(data: bytes) -> None:
    """What is published is taken whole by a head-end; what is found is one bounded line. It is heard four times."""
    topic, _, payload = data.partition(b"\n")
    bridged = Bridged().settled()
    for pause_s in (0.0, 1.0, 300.0, 7200.0):
        bridged.now += timedelta(seconds=pause_s)
        told = bridged.hear("", payload, topic=topic.decode(errors="replace"))
        for outgoing in told.outgoing:
            message = Message(str(outgoing.topic), outgoing.envelope.encode(), bridged.now)
            decision = ingest(message, catalogue=shipped_catalogue())
            assert isinstance(decision, Accepted), decision
            assert not decision.rejected_items, decision.rejected_items
        for each in told.findings:
            assert len(each.detail) <= DETAIL_CHARS_MAX
            assert each.detail.isprintable()


def bridge_config(data: bytes) -> None:
    """ConfigError in one line, or a map in which every id may stand in a topic."""
    file: Path = directory("bridge") / "bridge.toml"
    file.write_bytes(data)
    try:
        config = read_config(file)
    except ConfigError as error:
        assert "\n" not in str(error), str(error)
        return
    for pole in config.poles().values():
        for serial in pole.meters.values():
            assert str(pole.source(serial).telemetry)


def _messages() -> Sequence[bytes]:
    shapes = {
        "meter_0": meter(7_800_000),
        "meter_1": meter(7_800_000, PhW=64585, PhA=-4.35, PF=0.99, TotWhImport=1.7e8),
        "subpanel_3Ph": panel(-2_000_000_000, PhVphB=231.0, AphB=1.0, WphB=-225.0),
        "subpanel_ENV": cabinet(7_800_000, temperature_C=6552.6),
        "subpanel_MFR": nameplate(7_800_000),
        "subpanel_RCMleaks": leakage(7_800_000, dc=7.5),
        "subpanel_harmonics": harmonics(7_800_000),
    }
    told = [f"openami/{POLE}/{name}\n".encode() + as_payload(m) for name, m in shapes.items()]
    return [*told, f"openami/{POLE}//door\nopen".encode()]


TARGETS = (
    Target("bridge", bridge, _messages, 120),
    Target("bridge_config", bridge_config, lambda: [WHOLE.encode()], 120),
)
