"""A gateway on a small board judges commands, not the other way round: the bounds hold on one core."""

from benchmarks.bench_sip import (
    HES,
    KEYRING_MS_MAX,
    OPERATOR,
    VERIFY_MS_MAX,
    command_payload,
    facts,
    judge,
    keyring_payload,
    load,
    milliseconds,
)

from openami.sip.canonical import DOCUMENT_BYTES_MAX
from openami.sip.keyring import IDENTITIES_MAX


def test_a_command_is_verified_within_a_millisecond() -> None:
    known = facts(load(keyring_payload(80)))
    payload = command_payload(HES, OPERATOR)
    assert min(milliseconds(lambda: judge(payload, known), calls=50, repeats=5)) <= VERIFY_MS_MAX


def test_the_largest_keyring_loads_within_fifty() -> None:
    payload = keyring_payload(IDENTITIES_MAX)
    assert len(payload) <= DOCUMENT_BYTES_MAX
    assert min(milliseconds(lambda: load(payload), calls=3, repeats=5)) <= KEYRING_MS_MAX
