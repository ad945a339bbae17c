"""What the gateway remembers of its meters across a restart: a row for each in the gateway's database.

Written with every billing poll, when a meter is lost or found, and at a clean end; not with every fast
poll, because that would double what a memory card has to bear. So after a power cut counters, which are
billing registers, are known to the last reading, and fast registers to the last billing poll: older, and
each with its own time.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from openami.gateway.database import Database, read_only
from openami.gateway.entries import Within
from openami.gateway.event_rules import RuleMemory
from openami.gateway.log_position import LogPosition
from openami.gateway.meter_record import MeterRecord
from openami.gateway.normalise import Memory, Remembered, without_unknown_times
from openami.gateway.outages import History, of_earlier_boot
from openami.gateway.reachability import Reachability
from openami.gateway.telling import Telling
from openami.profile import MeterSerial, Obis, Value
from openami.sqlite_transaction import transaction


class RememberedMeter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One meter's row. Registers stand under their OBIS code's full form."""

    registers: dict[str, Remembered]
    boot_id: str
    lost: bool = False
    clashing: bool = False
    answered_at: datetime | None = None
    history: History = History()
    clock_set_at: datetime | None = None
    rules: RuleMemory = RuleMemory()
    telling: Telling = Telling()
    log: LogPosition | None = None

    @classmethod
    def of(cls, record: MeterRecord, boot_id: str) -> "RememberedMeter":
        """Return what is to be remembered of a meter."""
        return cls(
            registers={obis.full: remembered for obis, remembered in record.memory.items()},
            boot_id=boot_id,
            lost=record.reach.lost,
            clashing=record.reach.clashing,
            answered_at=record.answered_at,
            history=record.history,
            clock_set_at=record.clock_set_at,
            rules=record.rules,
            telling=record.telling,
            log=record.log,
        )

    def recalled(self, record: MeterRecord, boot_id: str) -> MeterRecord:
        """Return a configured meter's record with what is remembered of it.

        Times that only an earlier boot could have put right are forgotten.
        """
        memory: Memory = {Obis.parse(code): known for code, known in self.registers.items()}
        same_boot = boot_id == self.boot_id
        return replace(
            record,
            memory=memory if same_boot else without_unknown_times(memory),
            reach=Reachability(lost=self.lost, clashing=self.clashing),
            answered_at=self.answered_at,
            history=self.history if same_boot else of_earlier_boot(self.history),
            clock_set_at=self.clock_set_at,
            rules=self.rules,
            telling=self.telling,
            log=self.log,
        )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RememberedMeter).decode


class MeterMemories:
    """The rows in the gateway's database."""

    def __init__(self, database: Database, boot_id: str) -> None:
        self._database = database
        self._boot_id = boot_id

    async def recall(self, records: Iterable[MeterRecord]) -> Sequence[MeterRecord]:
        """Return the configured meters' records with what is remembered of them.

        Raises DatabaseError.
        """
        rows = dict(await self._database.run(_select))
        return [
            _decode(rows[record.serial]).recalled(record, self._boot_id)
            if record.serial in rows
            else record
            for record in records
        ]

    async def save(self, records: Iterable[MeterRecord]) -> None:
        """Remember these meters, durably. Raises DatabaseError."""
        keep = self.keeping(records)

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                keep(connection)

        await self._database.run(work)

    def keeping(self, records: Iterable[MeterRecord]) -> Within:
        """Return the work of remembering these meters as they are now, for somebody else's transaction.

        What was told and that it was told belong together: after a power cut between the two a condition would be
        told twice, or its end never.
        """
        rows = [
            (record.serial, _encode(RememberedMeter.of(record, self._boot_id)).decode())
            for record in records
        ]
        return lambda connection: _upsert(connection, rows)


def last_values(database: Path) -> Mapping[MeterSerial, Mapping[Obis, Value]]:
    """Return the values that meters told when they were last read, by a gateway that may be running.

    Empty if it never ran. Raises DatabaseError.
    """
    if not database.exists():
        return {}
    with read_only(database) as connection:
        rows = _select(connection)
    return {
        MeterSerial(serial): {
            Obis.parse(code): remembered.known.value
            for code, remembered in _decode(memory).registers.items()
            if remembered.known is not None
        }
        for serial, memory in rows
    }


def _select(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT serial, memory FROM meter_memory").fetchall()


def _upsert(connection: sqlite3.Connection, rows: Sequence[tuple[str, str]]) -> None:
    connection.executemany(
        "INSERT INTO meter_memory (serial, memory) VALUES (?, ?) "
        "ON CONFLICT (serial) DO UPDATE SET memory = excluded.memory",
        rows,
    )
