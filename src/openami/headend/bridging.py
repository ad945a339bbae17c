"""What a house has counted where its meter was swapped: one course, across the registers written down then. Pure.

Between a meter's last reading and its closing register, and between the next one's opening register and its first
reading, nobody measured by the period; the registers say how much it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from openami.headend.assets import Counted
from openami.headend.consumption import Known, to_wh
from openami.headend.store.energy import SeriesEnergy


def bridged(
    counted: Sequence[Counted], edges: Sequence[datetime], rows: Mapping[str, SeriesEnergy]
) -> tuple[tuple[int | None, ...], tuple[Known, ...]]:
    """Return what the meters of one place counted by period, and how far each is known.

    ``edges`` are the moments between which ``rows``, by serial, tell the energy.
    """
    if (whole := _whole(counted, edges, rows)) is not None:
        return whole.wh, whole.known
    wh: list[int | None] = [None] * (len(edges) - 1)
    known = [Known.NOTHING] * len(wh)
    for span in counted:
        _add(span, edges, rows.get(span.serial), wh, known)
    return tuple(wh), tuple(known)


def _whole(
    counted: Sequence[Counted], edges: Sequence[datetime], rows: Mapping[str, SeriesEnergy]
) -> SeriesEnergy | None:
    """Return the row of a meter that hung there all the time, as nearly every one does: it is the answer."""
    if len(counted) != 1:
        return None
    [span] = counted
    swapped = span.opening_kwh is not None or span.closing_kwh is not None
    if swapped or span.begin > edges[0] or span.end < edges[-1]:
        return None
    return rows.get(span.serial)


def one_course(counted: Sequence[Counted], rows: Mapping[str, SeriesEnergy]) -> SeriesEnergy | None:
    """Return the energy of meters that hung at one place, one after the other, under the last one's serial.

    None where none of them has the register.
    """
    told = [row for span in counted if (row := rows.get(span.serial)) is not None]
    if not told:
        return None
    [*_, last] = counted
    edges = told[0].since
    wh, known = bridged(counted, edges, rows)
    firsts = [row for row in told if row.first_at is not None]
    return replace(
        told[-1],
        meter_serial=last.serial,
        wh=wh,
        known=known,
        total_wh=sum(each for each in wh if each is not None),
        readings=sum(row.readings for row in told),
        suspect=sum(row.suspect for row in told),
        first_at=firsts[0].first_at if firsts else None,
        first_wh=firsts[0].first_wh if firsts else None,
        last_at=firsts[-1].last_at if firsts else None,
        last_wh=firsts[-1].last_wh if firsts else None,
        breaks=tuple(each for row in told for each in row.breaks),
    )


def _add(
    span: Counted,
    edges: Sequence[datetime],
    row: SeriesEnergy | None,
    wh: list[int | None],
    known: list[Known],
) -> None:
    """Add what one meter counted while it hung there, closed and opened by its registers at a swap."""
    if row is None:
        return
    for n in range(len(wh)):
        told = row.wh[n]
        if told is not None and span.begin < edges[n + 1] and edges[n] < span.end:
            both = wh[n] is not None
            wh[n] = told + (wh[n] or 0)
            # In the hour of a swap each meter knows its own part; with both registers nothing is open.
            known[n] = min(known[n], row.known[n]) if both else row.known[n]
    if row.first_at is None or row.last_at is None:
        return
    closing, opening = to_wh(span.closing_kwh, "kWh"), to_wh(span.opening_kwh, "kWh")
    if closing is not None and row.last_wh is not None and row.last_at <= span.end:
        _share(closing - row.last_wh, row.last_at, span.end, edges, wh, known)
    if opening is not None and row.first_wh is not None and row.first_at >= span.begin:
        _share(row.first_wh - opening, span.begin, row.first_at, edges, wh, known)


def _share(
    energy: int,
    begin: datetime,
    end: datetime,
    edges: Sequence[datetime],
    wh: list[int | None],
    known: list[Known],
) -> None:
    """Share energy between a reading and a register somebody wrote down out over the hours between them."""
    if energy < 0:  # a slip of the pen: the readings stand, as a lower bound
        return
    length = (end - begin).total_seconds() or 1.0
    for n in range(len(wh)):
        low, high = max(begin, edges[n]), min(end, edges[n + 1])
        if low < high or (begin == end and edges[n] <= begin < edges[n + 1]):
            parts = [round(energy * (at - begin).total_seconds() / length) for at in (low, high)]
            wh[n] = (wh[n] or 0) + (parts[1] - parts[0] if low < high else energy)
            known[n] = Known.SPREAD
