"""A Parquet file in parts: what has been written is handed on and forgotten."""

import io
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from openami.headend.store import Reading

_TIME: Final = pa.timestamp("ms", tz="UTC")
_FIELDS: Final[list["pa.Field[Any]"]] = [
    pa.field("feederId", pa.string(), nullable=False),
    pa.field("meterSerial", pa.string(), nullable=False),
    pa.field("obis", pa.string(), nullable=False),
    pa.field("ts", _TIME, nullable=False),
    pa.field("value", pa.float64()),
    pa.field("text", pa.string()),
    pa.field("unit", pa.string(), nullable=False),
    pa.field("quality", pa.string(), nullable=False),
    pa.field("receivedAt", _TIME, nullable=False),
]
SCHEMA: Final = pa.schema(_FIELDS)


class _Handed(io.RawIOBase):
    """A file that keeps only what nobody has taken yet, and knows how far it is."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, part: object) -> int:
        content = bytes(part)  # type: ignore[call-overload]  # whatever has a buffer
        self._parts.append(content)
        self._written += len(content)
        return len(content)

    def taken(self) -> bytes:
        """Return what was written since it was last taken."""
        content = b"".join(self._parts)
        self._parts.clear()
        return content


class ParquetParts:
    """Writes groups of readings, and gives the bytes of each."""

    def __init__(self) -> None:
        self._file = _Handed()
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._file, mode="w"), SCHEMA, compression="zstd"
        )

    def written(self, group: Sequence[Reading]) -> bytes:
        """Write one row group; return what can be sent of it."""
        self._writer.write_table(
            pa.table(
                {
                    "feederId": [r.feeder_id for r in group],
                    "meterSerial": [r.meter_serial for r in group],
                    "obis": [str(r.obis) for r in group],
                    "ts": pa.array([r.ts for r in group], _TIME),
                    "value": pa.array([_number(r.value) for r in group], pa.float64()),
                    "text": pa.array([_text(r.value) for r in group], pa.string()),
                    "unit": [r.unit for r in group],
                    "quality": [str(r.quality) for r in group],
                    "receivedAt": pa.array([r.received_at for r in group], _TIME),
                },
                schema=SCHEMA,
            )
        )
        return self._file.taken()

    def end(self) -> bytes:
        """Write what stands at a file's end; return the rest."""
        self._writer.close()
        return self._file.taken()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else None
