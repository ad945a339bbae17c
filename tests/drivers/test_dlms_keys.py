"""Keys and counters of DLMS meters: read by their owner alone, told nobody, and no counter value twice."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tests.drivers.dlms_double import DlmsBus, DlmsDouble
from tests.drivers.line_double import on_port

from openami.gateway.driver import DriverError, LineSettings, MeterSettings, OptionsError
from openami.gateway.drivers.dlms import DlmsDriver
from openami.gateway.drivers.dlms.association import (
    Association,
    Credentials,
    Security,
    ServerCounter,
)
from openami.gateway.drivers.dlms.ciphering import COUNTER_MAX, Keys
from openami.gateway.drivers.dlms.errors import CipherError
from openami.gateway.drivers.dlms.invocation import BLOCK, InvocationCounter, read_counter
from openami.gateway.drivers.dlms.key_file import KeySet, Password, read_key_file
from openami.gateway.drivers.dlms.link import WrapperLink
from openami.private_files import KeyFileError
from openami.profile import MeterSerial, Obis

_KEY = "00112233445566778899aabbccddeeff"
_KEYED = (
    f'encryption_key = "{_KEY}"\nauthentication_key = "{_KEY[::-1]}"\n'
    'system_title = "4f50454e00000001"\n'
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    return directory


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return path


# --- key files -----------------------------------------------------------------------------------


def test_a_key_file_holds_a_password_or_keys(home: Path) -> None:
    assert read_key_file(write(home / "a.toml", 'password = "1234"\n')) == Password(b"1234")
    keys = read_key_file(write(home / "b.toml", _KEYED))
    assert isinstance(keys, KeySet)
    assert keys.keys == Keys(bytes.fromhex(_KEY), bytes.fromhex(_KEY[::-1]))
    assert keys.title == b"OPEN\0\0\0\1"
    assert keys.counter_file == home / "b.counter"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither a password nor keys"),
        (_KEYED + 'password = "1"\n', "neither a password nor keys"),
        (f'encryption_key = "{_KEY}"\n', "neither a password nor keys"),
        (_KEYED.replace("ff", "f"), "32 hexadecimal digits"),
        (_KEYED.replace("ff", "fg"), "32 hexadecimal digits"),
        (_KEYED.replace("4f50", "50"), "16 hexadecimal digits"),
        ('password = ""\n', "1 to 64"),
        ('password = "' + "x" * 65 + '"\n', "1 to 64"),
        ('pasword = "secret"\n', "did you mean 'password'"),
        ("password = secret\n", "not TOML"),
        ("password = 987654\n", "password"),
    ],
)
def test_what_is_no_key_file_is_refused_without_telling_it(
    home: Path, text: str, message: str
) -> None:
    with pytest.raises(KeyFileError, match=message) as refused:
        read_key_file(write(home / "a.toml", text))
    said = f"{refused.value} {refused.value.remedy}"
    for secret in (_KEY[:8], "secret", "987654", "xxxx"):
        assert secret not in said


def test_a_key_file_that_others_may_read_is_refused(home: Path) -> None:
    with pytest.raises(KeyFileError, match="open to other users"):
        read_key_file(write(home / "a.toml", _KEYED, 0o640))


def test_nothing_prints_a_secret(home: Path) -> None:
    for access in (
        read_key_file(write(home / "a.toml", 'password = "hunter2-is-it"\n')),
        read_key_file(write(home / "b.toml", _KEYED)),
        Credentials(password=b"hunter2-is-it"),
        Credentials(
            security=Security(
                Keys(bytes(16), b"hunter2-is-it!!!"), b"OPEN0001", int, b"hunter2-is-it"
            )
        ),
    ):
        shown = repr(access)
        assert "hunter2" not in shown
        assert repr(bytes.fromhex(_KEY)) not in shown


async def test_neither_a_log_nor_an_error_holds_a_secret(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A meter that refuses the password, and one that knows no keys: everything that is said of them."""
    caplog.set_level(logging.DEBUG)
    write(home / "a.toml", 'password = "hunter2-is-it"\n')
    write(home / "b.toml", _KEYED)
    write(home / "b.counter", "0\n")
    bus = DlmsBus({b"\0\1": DlmsDouble(password=b"other"), b"\0\2": DlmsDouble()}, hdlc=False)
    said = []
    async with on_port(bus) as port:
        meters = [
            MeterSettings(MeterSerial("A"), {"client": 32, "server": 1, "keys": "keys/a.toml"}),
            MeterSettings(MeterSerial("B"), {"client": 1, "server": 2, "keys": "keys/b.toml"}),
        ]
        line = {"transport": "tcp", "host": "127.0.0.1", "port": port.number, "timeout_s": 1.0}
        async with DlmsDriver.open(LineSettings("line", meters, line, home.parent)) as opened:
            for meter in opened.meters.values():
                with pytest.raises(DriverError) as refused:
                    await meter.read([Obis.parse("1.8.0")])
                said.append(f"{refused.value!r} {refused.value.__cause__!r}")
    text = caplog.text + "".join(said)
    assert len(said) == 2
    for secret in ("hunter2", _KEY, _KEY[::-1], b"hunter2-is-it".hex()):
        assert secret not in text.lower()


def test_a_key_file_that_cannot_be_read_is_an_error_of_its_option(home: Path) -> None:
    meters = [MeterSettings(MeterSerial("A"), {"keys": "keys/gone.toml"})]
    with pytest.raises(OptionsError, match=r"gone\.toml") as refused:
        DlmsDriver.open(
            LineSettings("line", meters, {"transport": "tcp", "host": "x"}, home.parent)
        )
    assert refused.value.path == ("meter", 0, "keys")


# --- the invocation counter ----------------------------------------------------------------------


def test_a_counter_gives_each_value_once_over_restarts(home: Path) -> None:
    path = write(home / "a.counter", "5\n")
    given = []
    for _ in range(3):
        counter = InvocationCounter(path)
        given += [counter.next() for _ in range(BLOCK + 7)]
    assert len(set(given)) == len(given)
    assert given == sorted(given)
    assert given[0] == 5


def test_the_block_is_on_disk_before_its_first_value_is_used(home: Path) -> None:
    path = write(home / "a.counter", "0\n")
    counter = InvocationCounter(path)
    assert counter.low
    assert counter.next() == 0
    assert read_counter(path) == BLOCK
    counter.reserve()
    assert read_counter(path) == 2 * BLOCK
    assert [counter.next() for _ in range(3)] == [1, 2, 3]


def test_two_programs_share_a_counter(home: Path) -> None:
    path = write(home / "a.counter", "0\n")
    one, other = InvocationCounter(path), InvocationCounter(path)
    given = [counter.next() for _ in range(BLOCK + 1) for counter in (one, other)]
    assert len(set(given)) == len(given)


_USER = """
import sys
from pathlib import Path
from openami.gateway.drivers.dlms.invocation import InvocationCounter
counter = InvocationCounter(Path(sys.argv[1]))
while True:
    print(counter.next(), flush=True)
"""


def test_a_counter_survives_being_killed_at_any_moment(home: Path) -> None:
    path = write(home / "a.counter", "0\n")
    given: list[int] = []
    for lines in (1, BLOCK - 1, 2 * BLOCK + 1):
        with subprocess.Popen(
            [sys.executable, "-c", _USER, str(path)], stdout=subprocess.PIPE, text=True
        ) as user:
            assert user.stdout is not None
            given += [int(user.stdout.readline()) for _ in range(lines)]
            user.kill()
            # What it had said when it was killed is said too; a line cut in two is no value.
            rest = user.stdout.read()
            given += [int(value) for value in rest[: rest.rfind("\n") + 1].split()]
    assert len(given) > 3 * BLOCK
    assert len(set(given)) == len(given)
    assert given == sorted(given)


@pytest.mark.parametrize("text", ["", "x\n", "-1\n", "1.5\n", f"{COUNTER_MAX + 2}\n"])
def test_what_is_no_counter_is_refused_and_left_alone(home: Path, text: str) -> None:
    path = write(home / "a.counter", text)
    with pytest.raises(CipherError, match="invocation counter"):
        InvocationCounter(path).next()
    assert path.read_text() == text


def test_a_counter_that_is_not_there_is_not_made(home: Path) -> None:
    with pytest.raises(CipherError, match="echo 0"):
        InvocationCounter(home / "a.counter").next()
    assert not (home / "a.counter").exists()


def test_a_counter_that_went_back_is_not_believed(home: Path) -> None:
    path = write(home / "a.counter", "5000\n")
    counter = InvocationCounter(path)
    counter.next()
    path.write_text("10\n")
    with pytest.raises(CipherError, match="went back"):
        counter.reserve()


def test_the_last_values_are_given_and_no_more(home: Path) -> None:
    path = write(home / "a.counter", f"{COUNTER_MAX - 1}\n")
    counter = InvocationCounter(path)
    assert [counter.next(), counter.next()] == [COUNTER_MAX - 1, COUNTER_MAX]
    with pytest.raises(CipherError, match="new keys"):
        counter.next()


def test_a_meters_counter_must_grow() -> None:
    counter = ServerCounter()
    counter.check(b"METER001", 0)  # a meter may begin there
    counter.check(b"METER001", 1)
    for old in (1, 0):
        with pytest.raises(CipherError, match="invocation counter"):
            counter.check(b"METER001", old)
    counter.check(b"METER002", 0)  # another meter in its place counts anew


def test_a_mirror_is_not_a_meter() -> None:
    """Who sends back our own title or challenge has no keys of his own."""
    title, challenge = b"OPEN0001", b"0123456789abcdef"
    for told_title, told_challenge in ((title, b"another-one!"), (b"METER001", challenge)):
        security = Security(Keys(bytes(16), bytes(16)), title, iter(range(9)).__next__, challenge)
        steps = Association(WrapperLink(1, 1), Credentials(security=security)).open()
        next(steps)
        fields = (
            bytes.fromhex("a109060760857405080103a203020100a305a10302010e")
            + b"\xa4\x0a\x04\x08"
            + told_title
            + bytes((0xAA, len(told_challenge) + 2, 0x80, len(told_challenge)))
            + told_challenge
            + b"\xbe\x02\x04\x00"
        )
        answer = bytes((0x61, len(fields))) + fields
        packet = b"\0\1\0\1\0\1" + len(answer).to_bytes(2, "big") + answer
        with pytest.raises(CipherError, match="mirror"):
            steps.send(packet)
