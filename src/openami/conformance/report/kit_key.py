"""The kit's own key: made on first use, the running user's alone."""

from pathlib import Path

from openami.keyfiles import load_signer, make_key
from openami.sip.keys import KeySigner


def kit_signer(path: Path) -> tuple[KeySigner, bool]:
    """Return the signer of a key file, and whether it was made just now. Raises KeyFileError."""
    if path.exists() or path.is_symlink():
        return load_signer(path), False
    return make_key(path), True
