"""SipError: a signed document that must not be believed, by the code its sender may be told.

The codes are those of the refusal table in docs/sip.md, and stable. Up to the verification of signatures a
refusal is silent (counted, never answered): there is no oracle for somebody without a key.
"""

from enum import StrEnum

from openami.profile import one_line


class SipCode(StrEnum):
    """Why a document, an act or a command is refused."""

    # how it came, and its bytes
    RETAINED = "RETAINED"
    TOO_LARGE = "TOO_LARGE"
    BAD_JSON = "BAD_JSON"
    DUPLICATE_MEMBER = "DUPLICATE_MEMBER"
    # its members
    BAD_FIELD = "BAD_FIELD"
    TOPIC_MISMATCH = "TOPIC_MISMATCH"
    UNKNOWN_ACTION = "UNKNOWN_ACTION"
    # its acts
    NO_KEYRING = "NO_KEYRING"
    NO_SIGNATURE = "NO_SIGNATURE"
    TOO_MANY_ACTS = "TOO_MANY_ACTS"
    BAD_ENCODING = "BAD_ENCODING"
    BAD_TYPE = "BAD_TYPE"
    WRONG_TYPE = "WRONG_TYPE"
    BAD_HEADER = "BAD_HEADER"
    BAD_ALG = "BAD_ALG"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    WEAK_KEY = "WEAK_KEY"
    # its session
    NO_SESSION = "NO_SESSION"
    SESSION_CLOSED = "SESSION_CLOSED"
    SESSION_CONFLICT = "SESSION_CONFLICT"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    TOO_MANY_SESSIONS = "TOO_MANY_SESSIONS"
    UNKNOWN_PARTICIPANT = "UNKNOWN_PARTICIPANT"
    # its freshness
    SEQ_REUSED = "SEQ_REUSED"
    SEQ_REPLAY = "SEQ_REPLAY"
    STALE_NONCE = "STALE_NONCE"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"
    # its rights
    KEYRING_EXPIRED = "KEYRING_EXPIRED"
    KEYRING_ROLLBACK = "KEYRING_ROLLBACK"
    OUT_OF_SCOPE = "OUT_OF_SCOPE"
    NOT_A_PARTICIPANT = "NOT_A_PARTICIPANT"
    NOT_ALLOWED = "NOT_ALLOWED"
    QUORUM = "QUORUM"
    # the last word of the gateway
    ACTION_MISMATCH = "ACTION_MISMATCH"
    RATE_LIMIT = "RATE_LIMIT"
    DWELL = "DWELL"
    PROTECTED_HOURS = "PROTECTED_HOURS"
    LOCKOUT = "LOCKOUT"
    TRADE_DONE = "TRADE_DONE"
    TICKET_USED = "TICKET_USED"
    STORAGE = "STORAGE"
    METER_ERROR = "METER_ERROR"


class SipError(ValueError):
    """A document, act or key that is refused; ``detail`` is for a person, ``code`` for the wire."""

    def __init__(self, code: SipCode, detail: str) -> None:
        self.code = code
        self.detail = one_line(detail)  # it may name what a stranger sent, and goes into logs
        super().__init__(f"{code}: {self.detail}")
