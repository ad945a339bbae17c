"""Key files: what is written is private and whole, what is not private is not read."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from openami import keyfiles
from openami.keyfiles import KeyFileError, load_roots, load_signer, make_key, save_roots
from openami.sip.canonical import encode_base64url
from openami.sip.keyring import Roots


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory as ``make_key`` leaves it."""
    directory = tmp_path / "keys"
    keyfiles.ensure_private_directory(directory)
    return directory


def test_a_key_is_read_back_as_it_was_made(home: Path) -> None:
    """The file's signer signs what the maker's public key verifies."""
    made = make_key(home / "gateway.key")
    read = load_signer(home / "gateway.key")
    assert read.kid == made.kid
    assert made.public.verify(read.sign(b"a"), b"a")
    assert not made.public.verify(read.sign(b"a"), b"b")


def test_a_new_key_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Directory 0700 and file 0600, also for a careless user."""
    before = os.umask(0)
    try:
        make_key(tmp_path / "a" / "b" / "gateway.key")
    finally:
        os.umask(before)
    file = tmp_path / "a" / "b" / "gateway.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in file.parent.iterdir()) == ["gateway.key"]


def test_a_key_is_never_overwritten(home: Path) -> None:
    """A second make_key on one path is refused and leaves the first key."""
    kid = make_key(home / "gateway.key").kid
    with pytest.raises(KeyFileError, match="not overwritten"):
        make_key(home / "gateway.key")
    assert load_signer(home / "gateway.key").kid == kid
    assert [p.name for p in home.iterdir()] == ["gateway.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_file_open_to_anybody_else_is_refused(home: Path, mode: int) -> None:
    """Any single right of group or others is one too many; the remedy is a chmod."""
    file = home / "gateway.key"
    make_key(file)
    file.chmod(mode)
    with pytest.raises(KeyFileError, match="open to other users") as refused:
        load_signer(file)
    assert f"chmod 0600 {file}" in refused.value.remedy
    file.chmod(0o600)
    load_signer(file)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o720, 0o702, 0o710, 0o701])
def test_a_directory_open_to_anybody_else_is_refused(home: Path, mode: int) -> None:
    """Whoever may write the directory may exchange the key; reading it is refused as well."""
    make_key(home / "gateway.key")
    home.chmod(mode)
    with pytest.raises(KeyFileError, match="open to other users") as refused:
        load_signer(home / "gateway.key")
    assert f"chmod 0700 {home}" in refused.value.remedy
    with pytest.raises(KeyFileError, match="open to other users"):
        make_key(home / "second.key")
    home.chmod(0o700)
    load_signer(home / "gateway.key")


def test_a_link_is_refused_wherever_it_points(home: Path, tmp_path: Path) -> None:
    """A symbolic link as file or as directory, for reading and for writing."""
    make_key(home / "gateway.key")
    (home / "link.key").symlink_to(home / "gateway.key")
    (tmp_path / "elsewhere").symlink_to(home)
    attempts: list[Callable[[], object]] = [
        lambda: load_signer(home / "link.key"),
        lambda: keyfiles.write_private(home / "link.key", b"x"),
        lambda: load_signer(tmp_path / "elsewhere" / "gateway.key"),
        lambda: make_key(tmp_path / "elsewhere" / "new.key"),
    ]
    for attempt in attempts:
        with pytest.raises(KeyFileError, match="symbolic link"):
            attempt()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_file_is_refused(home: Path) -> None:
    """A key of another user is not ours to sign with: its owner can change it."""
    make_key(home / "gateway.key")
    os.chown(home / "gateway.key", 65534, -1)
    with pytest.raises(KeyFileError, match="belongs to user 65534"):
        load_signer(home / "gateway.key")


def test_what_is_no_signing_key_is_refused_by_what_it_is(home: Path) -> None:
    """Text, a P-256 key, a directory, a pipe, a device's worth of bytes, nothing."""
    p256 = ec.generate_private_key(ec.SECP256R1())
    keyfiles.write_private(home / "text", b"not a key")
    keyfiles.write_private(
        home / "p256", p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    keyfiles.write_private(home / "large", b"x" * (keyfiles.FILE_BYTES_MAX + 1))
    (home / "directory").mkdir(mode=0o700)
    os.mkfifo(home / "pipe", 0o600)
    for name, words in {
        "text": "not an unencrypted private key",
        "p256": "another kind of key",
        "large": "more than",
        "directory": "is not a file",
        "pipe": "is not a file",
        "nothing": "cannot read",
    }.items():
        with pytest.raises(KeyFileError, match=words):
            load_signer(home / name)


def test_a_write_leaves_the_old_file_or_the_new_one(home: Path) -> None:
    """A full disk in the middle of a write: the file is the old one, and no rest is left."""
    file = home / "roots.json"
    keyfiles.write_private(file, b"old")
    code = (
        "import resource, signal, pathlib\n"
        "from openami import keyfiles\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: keyfiles.write_private(pathlib.Path({!r}), b'n' * 100)\n"
        "except keyfiles.KeyFileError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.format(str(file))], capture_output=True, text=True, check=True
    )
    assert "cannot write" in done.stdout
    assert file.read_bytes() == b"old"
    assert [p.name for p in home.iterdir()] == ["roots.json"]


def test_roots_are_read_back(home: Path) -> None:
    """Pins survive the file; replacing them is one write."""
    keys = [make_key(home / f"{i}.key").public for i in range(3)]
    for threshold in (2, 3):
        roots = Roots(threshold=threshold, keys={k.kid: k for k in keys})
        save_roots(home / "roots.json", roots)
        read = load_roots(home / "roots.json")
        assert read.threshold == threshold
        assert [k.raw for k in read.keys.values()] == [k.raw for k in keys]


def test_roots_that_would_admit_more_than_they_say_are_refused(home: Path) -> None:
    """Threshold 0 or beyond the keys, a root twice, a weak one, none, other members."""
    a, b = (encode_base64url(make_key(home / f"{n}.key").public.raw) for n in "ab")
    weak = encode_base64url(b"\x01" + bytes(31))
    good: dict[str, object] = {"threshold": 2, "keys": [a, b]}
    keyfiles.read_roots(good)
    for bad, words in [
        ({**good, "threshold": 0}, "threshold"),
        ({**good, "threshold": 3}, "threshold"),
        ({**good, "threshold": True}, "threshold"),
        ({**good, "keys": [a, a]}, "twice"),
        ({**good, "keys": [a, weak]}, "small order"),
        ({**good, "keys": []}, "1 to 8"),
        ({**good, "keys": a}, "list"),
        ({**good, "other": 1}, "threshold and keys"),
        ([], "threshold and keys"),
    ]:
        with pytest.raises(ValueError, match=words):
            keyfiles.read_roots(bad)
