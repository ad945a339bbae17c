"""Private keys and pinned roots as files that nobody else can read or change.

A key is an Ed25519 private key in PKCS#8 PEM, unencrypted: a gateway has to start after a power cut with
nobody there to type a passphrase, so the rights of the file are its lock (`private_files`): whoever can read
it can sign.
"""

import json
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from openami.private_files import (
    FILE_BYTES_MAX,
    KeyFileError,
    check_private,
    ensure_private_directory,
    read_private,
    write_new_private,
    write_private,
    write_public,
)
from openami.sip.canonical import encode_base64url
from openami.sip.keyring import Roots
from openami.sip.keys import KeySigner, PublicKey

__all__ = [
    "FILE_BYTES_MAX",
    "ROOTS_MAX",
    "KeyFileError",
    "check_private",
    "ensure_private_directory",
    "load_roots",
    "load_signer",
    "make_key",
    "print_roots",
    "read_private",
    "read_roots",
    "save_roots",
    "write_new_private",
    "write_private",
    "write_public",
]

ROOTS_MAX: Final = 8  # as many as a document may have acts


def load_signer(path: Path) -> KeySigner:
    """Return the signer whose private key the file holds. Raises KeyFileError."""
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path} is not an unencrypted private key in PEM: {error}",
            "make a new one, or restore it from the backup",
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path} holds another kind of key; acts are signed with Ed25519",
            "name the signing key, not the certificate's",
        )
    return KeySigner(key)


def make_key(path: Path) -> KeySigner:
    """Make a new private key in a file that was not there; return its signer. Raises KeyFileError."""
    key = Ed25519PrivateKey.generate()
    write_new_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return KeySigner(key)


def load_roots(path: Path) -> Roots:
    """Return the pinned roots; a file others may write is refused. Raises KeyFileError."""
    data = read_private(path)
    try:
        return read_roots(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise KeyFileError(
            f"{path} holds no root pins: {error}", "enrol again, or restore it from the backup"
        ) from None


def save_roots(path: Path, roots: Roots) -> None:
    """Write the pins in place of what was there. Raises KeyFileError."""
    write_private(path, (json.dumps(print_roots(roots), indent=2) + "\n").encode())


def read_roots(value: object) -> Roots:
    """Return the pins an object describes: ``threshold`` and ``keys``. Raises ValueError."""
    if not isinstance(value, dict) or set(value) != {"threshold", "keys"}:
        raise ValueError("an object with threshold and keys is asked for")
    texts, threshold = value["keys"], value["threshold"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("keys is a list of base64url texts")
    if not 1 <= len(texts) <= ROOTS_MAX:
        raise ValueError(f"1 to {ROOTS_MAX} roots are asked for, here are {len(texts)}")
    keys = [PublicKey.parse(text) for text in texts]  # SipError is a ValueError
    by_kid = {key.kid: key for key in keys}
    if len(by_kid) != len(keys):
        raise ValueError("a root stands twice: it would count twice")
    if type(threshold) is not int or not 1 <= threshold <= len(keys):
        raise ValueError(f"threshold is a whole number from 1 to {len(keys)}")
    return Roots(threshold=threshold, keys=by_kid)


def print_roots(roots: Roots) -> dict[str, object]:
    """Return the pins as ``read_roots`` reads them."""
    return {
        "threshold": roots.threshold,
        "keys": [encode_base64url(key.raw) for key in roots.keys.values()],
    }
