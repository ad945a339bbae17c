"""The link between gateway and broker cut, silenced, and as slow as 2G: nothing lost, and no reconnect storm."""

import asyncio
import sqlite3
import statistics
from contextlib import closing
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.e2e.accounting import unsent
from tests.e2e.bad_link import BadLink, Quality
from tests.e2e.commanded import Surroundings, commanded_village, until
from tests.e2e.faults import ROUNDS, UNPACED, assert_every_reading_once
from tests.e2e.namespaces import Wire, wire

pytestmark = [pytest.mark.broker, pytest.mark.slow]

KEEPALIVE_S = 5
# Longer than a client needs to miss its broker: it asks after one keep-alive and gives up after another. And so
# short that neither misses the other: TCP alone brings what was under way.
AWAY_S = {"missed": 11.0, "not missed": 3.0}
IN_NAMESPACE = {"listener 8883": "listener {port} 0.0.0.0"}
# 20 kbit/s, 0.7 s there and back, one packet in twenty lost: a 2G link on a bad day.
AS_2G = Quality(delay_s=0.35, jitter_s=0.1, bytes_per_s=2_500, loss=0.05)


def around(link: Wire) -> Surroundings:
    """Return a village whose gateway is on our side of a wire, and everything else on the other."""
    return Surroundings(
        operator_side=link.within, broker_host=link.host, keepalive_s=KEEPALIVE_S, uplink=UNPACED
    )


@pytest.mark.parametrize(
    ("how", "seen"), [("cable out", "not missed"), ("every packet dropped", "missed")]
)
async def test_gateway_and_operator_parted_and_together_again(
    mosquitto: StartMosquitto, tmp_path: Path, how: str, seen: str
) -> None:
    with wire() as link:
        async with commanded_village(
            mosquitto, tmp_path, meters=6, broker_changes=IN_NAMESPACE, around=around(link)
        ) as system:
            for _ in range(max(1, ROUNDS // 4)):
                if how == "cable out":
                    link.cut()
                    await asyncio.sleep(AWAY_S[seen])
                    link.mend()
                else:
                    with link.silenced() as by:
                        print(f"packets are dropped by {by}")
                        await asyncio.sleep(AWAY_S[seen])
                assert unsent(system.outbox) > 0, "nothing was parted"
            await assert_every_reading_once(system)
            was_missed = "uplink down" in (tmp_path / "gateway.log").read_text()
            assert was_missed == (seen == "missed")


async def test_a_backlog_over_a_link_as_slow_as_2g(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    link = BadLink()
    surroundings = Surroundings(link=link.to, uplink=UNPACED)
    async with commanded_village(
        mosquitto, tmp_path, meters=2, fast_s=2, around=surroundings
    ) as system:
        link.cut()
        await asyncio.sleep(6.0)
        backlog = unsent(system.outbox)
        last_old = last_seq(system.outbox)
        before = link.connections
        link.quality = AS_2G
        link.mend()
        await until(lambda: link.connections > before)
        await until(lambda: not unsent_up_to(system.outbox, last_old))
        assert link.connections - before <= 3, "a storm"
        live, waited = sent_after(system.outbox, last_old, backlog)
        assert backlog > 5
        assert live, "no reading was taken while the backlog drained"
        assert statistics.median(live) < statistics.median(waited), "live readings go first"
        link.quality = Quality()
        await assert_every_reading_once(system)


async def test_the_kernels_own_slow_link(mosquitto: StartMosquitto, tmp_path: Path) -> None:
    with wire() as link:
        async with commanded_village(
            mosquitto,
            tmp_path,
            meters=2,
            fast_s=2,
            broker_changes=IN_NAMESPACE,
            around=around(link),
        ) as system:
            connected = (tmp_path / "gateway.log").read_text().count("uplink connected")
            with link.like_2g() as by:
                print(f"narrowed by {by}")
                await asyncio.sleep(5.0)
                system.gateway.check()
            log = (tmp_path / "gateway.log").read_text()
            assert log.count("uplink connected") - connected <= 1, "a storm"
            await assert_every_reading_once(system)


def unsent_up_to(outbox: Path, last: int) -> bool:
    """Return whether something numbered so far is still unsent."""
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as connection:
        (found,) = connection.execute(
            "SELECT count(*) FROM outbox_entry WHERE state <> 'sent' AND seq <= ?", (last,)
        ).fetchone()
    return bool(found)


def last_seq(outbox: Path) -> int:
    """Return the highest number the outbox has given."""
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as connection:
        (number,) = connection.execute("SELECT last_seq FROM outbox_progress").fetchone()
    return int(number)


def sent_after(outbox: Path, last_old: int, backlog: int) -> tuple[list[int], list[int]]:
    """Return how many ms passed from measurement to acknowledgement: of live readings, of the backlog."""
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT seq, since_ms - ts_ms FROM outbox_entry WHERE state = 'sent' AND kind = 'telemetry'"
            " AND seq > ? - ?",
            (last_old, backlog),
        ).fetchall()
    return (
        [waited for seq, waited in rows if seq > last_old],
        [waited for seq, waited in rows if seq <= last_old],
    )
