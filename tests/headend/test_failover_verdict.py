"""The judge of ``benchmarks.bench_failover``: what it may not overlook."""

import pytest
from benchmarks.failover.load import REGISTERS, readings_of, seq_of
from benchmarks.failover.tap import packets
from benchmarks.failover.verdict import Row, longest_silence_s, lost, stored
from benchmarks.publisher import packets as published

SEQS = range(1, 201)


def row(seq: int, *, readings: int = REGISTERS, registers: int = REGISTERS) -> Row:
    meter, ts, counter = readings_of(seq)
    return meter, ts, readings, registers, counter


def test_an_envelope_is_known_by_meter_and_time() -> None:
    assert [seq_of(*readings_of(seq)[:2]) for seq in SEQS] == list(SEQS)


def test_whole_is_not_lost() -> None:
    found = stored(map(row, SEQS))
    assert (lost(SEQS, found), found.doubled, found.changed) == (0, 0, 0)


@pytest.mark.parametrize("missing", [1, 100, 200])
def test_an_envelope_without_one_of_its_registers_is_lost(missing: int) -> None:
    rows = [row(seq, registers=REGISTERS - (seq == missing)) for seq in SEQS]
    assert lost(SEQS, stored(rows)) == 1
    assert lost(SEQS, stored(one for one in rows if one != row(7))) == 2


def test_what_stands_twice_or_is_another_value() -> None:
    rows = [row(seq, readings=REGISTERS + (seq == 3)) for seq in SEQS]
    meter, ts, counter = readings_of(10)
    rows[9] = (meter, ts, REGISTERS, REGISTERS, counter + 0.001)
    found = stored(rows)
    assert (found.doubled, found.changed) == (1, 1)


def test_the_longest_silence_begins_with_the_kill_and_ends_with_the_look() -> None:
    heard = {1: 1.0, 2: 9.5, 3: 12.0, 4: 19.0}
    assert longest_silence_s(heard, 10.0, 20.0) == 7.0
    assert longest_silence_s(heard, 13.0, 18.0) == 5.0


def test_packets_are_whole_wherever_the_stream_was_cut() -> None:
    sent = list(published(3, 2, 3))
    stream = b"".join(sent)
    for cut in range(len(stream) + 1):
        first = list(packets(stream[:cut]))
        rest = stream[sum(map(len, first)) :]
        assert [*first, *packets(rest)] == sent
