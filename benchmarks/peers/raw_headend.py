"""The same work as the peers', done by our own parts: the raw envelope stored, acknowledged after the commit.

    python -m benchmarks.peers.raw_headend PORT (STORE|none) [MESSAGES]

`openami.mqtt`'s client and batches of a head-end's size, and in place of judge and ledger one table. ``none``
stores nothing: what MQTT alone costs. With MESSAGES it ends after so many and prints how many there were.
"""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing

from openami.headend.store.open import path_of
from openami.headend.uplink import BATCH_MESSAGES_MAX, FILTERS
from openami.mqtt.client import MqttPort
from openami.mqtt.settings import BrokerSettings

Commit = Callable[[Sequence[bytes]], Awaitable[None]]


@asynccontextmanager
async def raw_store(url: str) -> AsyncIterator[Commit]:
    """Yield what stores payloads durably, in one commit."""
    if url == "none":

        async def nothing(_: Sequence[bytes]) -> None:
            return

        yield nothing
    elif url.startswith("sqlite"):
        with ThreadPoolExecutor(1) as thread:
            loop = asyncio.get_running_loop()
            connection = await loop.run_in_executor(thread, _opened, path_of(url))

            def insert(payloads: Sequence[bytes]) -> None:
                with connection:
                    connection.executemany(
                        "INSERT INTO raw (payload) VALUES (?)", ((each,) for each in payloads)
                    )

            async def commit_sqlite(payloads: Sequence[bytes]) -> None:
                await loop.run_in_executor(thread, insert, payloads)

            with closing(connection):
                yield commit_sqlite
    else:
        import asyncpg

        database = await asyncpg.connect(url)

        async def commit_postgres(payloads: Sequence[bytes]) -> None:
            await database.copy_records_to_table(
                "raw", records=[(each,) for each in payloads], columns=["payload"]
            )

        yield commit_postgres
        await database.close()


def _opened(path: str) -> sqlite3.Connection:
    """Open the file as the head-end's store does."""
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


async def run(port: int, url: str, messages: int | None) -> int:
    """Receive, store, acknowledge; return how many there were."""
    settings = BrokerSettings(url=f"mqtt://127.0.0.1:{port}", client_id="bench-raw")
    seen = 0
    async with raw_store(url) as commit, MqttPort(settings).connect() as connection:
        await connection.subscribe(FILTERS)
        while messages is None or seen < messages:
            batch = await connection.receive(BATCH_MESSAGES_MAX)
            await commit([each.payload for each in batch])
            connection.acknowledge(batch)
            seen += len(batch)
    return seen


if __name__ == "__main__":
    wanted = int(sys.argv[3]) if len(sys.argv) > 3 else None
    print(asyncio.run(run(int(sys.argv[1]), sys.argv[2], wanted)))
