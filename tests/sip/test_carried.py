"""A carried backlog: it reads as it was written, or it says what is wrong with it."""

import gzip
import io
import subprocess
import sys
from datetime import timedelta

import pytest
from tests.carrying import FEEDER, GATEWAY, file_of, header, telemetry, topic
from tests.headend.village_keys import ROOTS, START, keyring, signer

from openami.headend.keyrings import in_force
from openami.sip.carried import (
    LINE_BYTES_MAX,
    BacklogReader,
    Carried,
    CarriedError,
    Fault,
    check_signer,
    write_backlog,
)
from openami.sip.keyring import Keyring

MESSAGES = [telemetry(number) for number in range(1, 6)]
FILE = file_of(MESSAGES, signer(GATEWAY))


def read(data: bytes) -> tuple[BacklogReader, list[Carried]]:
    reader = BacklogReader(io.BytesIO(data))
    return reader, list(reader.messages())


def fault_of(data: bytes) -> Fault:
    with pytest.raises(CarriedError) as raised:
        read(data)
    assert raised.value.remedy
    return raised.value.fault


def lines(data: bytes = FILE) -> list[bytes]:
    return gzip.decompress(data).splitlines(keepends=True)


def known() -> Keyring:
    found = in_force([keyring()], roots=ROOTS, feeder_id=FEEDER, gateway_id=GATEWAY)
    assert found is not None
    return found.keyring


def believed(data: bytes, by: Keyring | None) -> None:
    reader, _ = read(data)
    assert reader.seal is not None
    check_signer(reader.header, reader.seal, by)


def test_it_reads_as_it_was_written() -> None:
    reader, messages = read(FILE)
    assert messages == MESSAGES
    assert reader.header == header(5)
    believed(FILE, known())


@pytest.mark.parametrize("count", [0, 1])
def test_few_messages_or_none(count: int) -> None:
    data = file_of(MESSAGES[:count], signer(GATEWAY))
    assert read(data)[1] == MESSAGES[:count]
    believed(data, known())


def test_an_unpacked_one_reads_the_same() -> None:
    plain = gzip.decompress(FILE)
    assert read(plain)[1] == MESSAGES
    believed(plain, known())


def test_the_same_backlog_makes_the_same_bytes() -> None:
    assert file_of(MESSAGES, signer(GATEWAY)) == FILE


@pytest.mark.parametrize("packed", [True, False])
def test_cut_anywhere_it_is_told_as_cut(packed: bool) -> None:
    whole = FILE if packed else gzip.decompress(FILE)
    for end in range(len(whole)):
        told = fault_of(whole[:end])
        # Two bytes are the least by which a packed file is known as one.
        assert told is Fault.TRUNCATED or end < 2, (end, told)


def test_a_flipped_bit_anywhere_is_refused() -> None:
    for at in range(len(gzip.decompress(FILE))):
        plain = bytearray(gzip.decompress(FILE))
        plain[at] ^= 0x01
        with pytest.raises(CarriedError):
            believed(bytes(plain), known())


def test_a_flipped_bit_in_the_packing_is_refused_or_changes_nothing() -> None:
    # gzip's first bytes tell a time and a system, and the last block ends within a byte.
    harmless = set()
    for at in range(len(FILE)):
        for bit in range(8):
            packed = bytearray(FILE)
            packed[at] ^= 1 << bit
            try:
                reader, messages = read(bytes(packed))
            except CarriedError:
                continue
            assert messages == MESSAGES
            assert reader.seal is not None
            check_signer(reader.header, reader.seal, known())
            harmless.add(at)
    assert len(harmless) <= 10


def test_a_changed_value_is_told_as_altered() -> None:
    data = gzip.decompress(FILE).replace(b"231.5", b"131.5", 1)
    assert fault_of(data) is Fault.ALTERED


def test_lines_in_another_order_are_altered() -> None:
    first, one, two, *rest = lines()
    assert fault_of(b"".join([first, two, one, *rest])) is Fault.ALTERED


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_line_left_out_or_told_twice_is_altered(at: int) -> None:
    told = lines()
    assert fault_of(b"".join(told[:at] + told[at + 1 :])) is Fault.ALTERED
    assert fault_of(b"".join([*told[:at], told[at], *told[at:]])) is Fault.ALTERED


def test_the_number_of_messages_is_not_to_be_changed_either() -> None:
    told = lines()
    fewer = told[0].replace(b'"messages":5', b'"messages":4')
    assert fault_of(b"".join([fewer, *told[1:5], told[-1]])) is Fault.ALTERED


def test_two_files_in_one_are_told() -> None:
    assert fault_of(FILE + FILE) is Fault.FOLLOWED
    assert fault_of(gzip.decompress(FILE) * 2) is Fault.FOLLOWED
    assert fault_of(gzip.decompress(FILE) + b"\n") is Fault.FOLLOWED


def test_another_gateways_messages_are_foreign_whoever_signed() -> None:
    neighbour = Carried(topic(gateway="pole-ems-0043"), MESSAGES[0].payload)
    assert fault_of(file_of([*MESSAGES, neighbour], signer(GATEWAY))) is Fault.FOREIGN
    command = Carried(topic(kind="command").replace("/meter/", "/session/"), b"{}")
    assert fault_of(file_of([command], signer(GATEWAY))) is Fault.FOREIGN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b'{"schemaVersion":"0.1"}\n',
        b"PK\x03\x04 a zip\n",
        b"[]\n",
        b"\xff\xfe\n",
    ],
)
def test_another_file_is_no_backlog(data: bytes) -> None:
    assert fault_of(data) in (Fault.NOT_A_BACKLOG, Fault.TRUNCATED)


def test_a_newer_format_is_told_as_newer() -> None:
    newer = gzip.decompress(FILE).replace(b"openami-backlog/1", b"openami-backlog/2")
    assert fault_of(newer) is Fault.NEWER_FORMAT


def test_a_line_without_end_is_not_read_into_memory() -> None:
    endless = gzip.compress(lines()[0] + b"openami/v1/" + b"x" * (64 * 1024 * 1024))
    assert fault_of(endless) is Fault.ALTERED
    assert fault_of(lines()[0] + b"x" * (LINE_BYTES_MAX + 1) + b"\n") is Fault.ALTERED


# --- who signed ----------------------------------------------------------------------------------


def fault_of_signer(data: bytes, by: Keyring | None) -> Fault:
    with pytest.raises(CarriedError) as raised:
        believed(data, by)
    return raised.value.fault


def test_unsigned_it_is_told_as_unsigned() -> None:
    assert fault_of_signer(file_of(MESSAGES, None), known()) is Fault.UNSIGNED


@pytest.mark.parametrize("who", ["hes-1", "anita", "root", "stranger"])
def test_nobody_else_signs_for_a_gateway(who: str) -> None:
    assert fault_of_signer(file_of(MESSAGES, signer(who)), known()) is Fault.NOT_BELIEVED


def test_a_gateway_does_not_sign_for_its_neighbour() -> None:
    data = file_of([], signer(GATEWAY), gateway="pole-ems-0043")
    assert fault_of_signer(data, known()) is Fault.NOT_BELIEVED


def test_a_key_that_was_taken_out_of_the_keyring_proves_nothing() -> None:
    without = in_force(
        [keyring(), keyring(2, names=("hes-1", "anita"))],
        roots=ROOTS,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
    )
    assert without is not None
    assert fault_of_signer(FILE, without.keyring) is Fault.NOT_BELIEVED
    assert fault_of_signer(FILE, None) is Fault.NOT_BELIEVED


def test_signed_up_to_the_keyrings_end_and_not_after() -> None:
    end = START + timedelta(days=90)
    believed(file_of([], signer(GATEWAY), made_at=end), known())
    late = file_of([], signer(GATEWAY), made_at=end + timedelta(seconds=1))
    assert fault_of_signer(late, known()) is Fault.NOT_BELIEVED


def test_a_seal_is_not_taken_from_another_file() -> None:
    other = file_of([telemetry(9)], signer(GATEWAY))
    assert fault_of(b"".join([*lines()[:-1], lines(other)[-1]])) is Fault.ALTERED


def test_a_writer_that_miscounts_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        write_backlog(io.BytesIO(), header(2), MESSAGES, None)


# --- large ---------------------------------------------------------------------------------------

_HUNDRED_THOUSAND = """
import resource, sys
from tests.carrying import header, telemetry
from tests.headend.village_keys import GATEWAY, signer
from openami.sip.carried import BacklogReader, write_backlog

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

count = int(sys.argv[2])
with open(sys.argv[1], "wb") as out:
    write_backlog(out, header(100), map(telemetry, range(1, 101)), signer(GATEWAY))
before = peak()
with open(sys.argv[1], "wb") as out:
    write_backlog(out, header(count), map(telemetry, range(1, count + 1)), signer(GATEWAY))
with open(sys.argv[1], "rb", buffering=0) as file:
    reader = BacklogReader(file)
    assert sum(1 for _ in reader.messages()) == count
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: object) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _HUNDRED_THOUSAND, f"{tmp_path}/file", "100000"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    # Thirty megabytes go through; buffers are a quarter of one.
    assert int(run.stdout) < 3 * 1024, f"{run.stdout} KiB more"
