"""Key files: what one meter lets us in with. A 0600 file in a 0700 directory, read and never printed.

A TOML file with either ``password`` (LLS) or ``encryption_key``, ``authentication_key`` and ``system_title``
(HLS-GMAC), each in hexadecimal digits. Beside it lies the invocation counter of its keys (`invocation`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from openami.gateway.drivers.dlms.ciphering import KEY_BYTES, TITLE_BYTES, Keys
from openami.gateway.strict import TableError, convert
from openami.private_files import KeyFileError, read_private
from openami.toml_text import TomlError, read_toml

PASSWORD_CHARS_MAX: Final = 64  # meters take 8 to 20
_COUNTER_SUFFIX: Final = ".counter"


class _File(msgspec.Struct, frozen=True, kw_only=True):
    password: str | None = None
    encryption_key: str | None = None
    authentication_key: str | None = None
    system_title: str | None = None


@dataclass(frozen=True, slots=True)
class Password:
    """What a low-level association says."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """What an association by keys needs: the keys, our name in it, and where its counter is kept."""

    keys: Keys
    title: bytes
    counter_file: Path


def read_key_file(path: Path) -> Password | KeySet:
    """Return what the file holds. Raises KeyFileError, which never tells what it holds."""
    try:
        text = read_private(path).decode("utf-8")
        file = convert(read_toml(text), _File)
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is no text", "write it anew, in UTF-8") from None
    except (TomlError, TableError) as error:
        raise KeyFileError(f"{path}: {error}", "see docs/drivers.md for its keys") from None
    keyed = (file.encryption_key, file.authentication_key, file.system_title)
    if file.password is not None and not any(keyed):
        return Password(_password(path, file.password))
    if file.password is None and all(keyed):
        encryption, authentication, title = keyed
        assert encryption
        assert authentication
        assert title
        return KeySet(
            Keys(
                _octets(path, "encryption_key", encryption, KEY_BYTES),
                _octets(path, "authentication_key", authentication, KEY_BYTES),
            ),
            _octets(path, "system_title", title, TITLE_BYTES),
            path.with_suffix(_COUNTER_SUFFIX),
        )
    raise KeyFileError(
        f"{path} holds neither a password nor keys",
        "write password, or encryption_key, authentication_key and system_title",
    )


def _password(path: Path, text: str) -> bytes:
    if not (text.isascii() and 0 < len(text) <= PASSWORD_CHARS_MAX):
        raise KeyFileError(
            f"{path}: password has 1 to {PASSWORD_CHARS_MAX} ASCII characters", "correct it"
        )
    return text.encode("ascii")


def _octets(path: Path, name: str, text: str, count: int) -> bytes:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != count:
        raise KeyFileError(f"{path}: {name} has {2 * count} hexadecimal digits", "correct it")
    return octets
