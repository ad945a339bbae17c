"""The rules of accounts, without a store or a socket."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.headend.accounts import Role
from openami.headend.accounts.backoff import (
    FORGOTTEN_AFTER_HOURS,
    FREE_ATTEMPTS,
    WAIT_S_MAX,
    Attempts,
    counted,
    counted_address,
    is_worth_noting,
    waits_until,
)
from openami.headend.accounts.credentials import (
    TOKEN_DAYS_MAX,
    Kind,
    digest_of,
    is_token,
    made_token,
    new_secret,
    new_token,
)
from openami.headend.accounts.proxy import forwarded_address
from openami.headend.accounts.second_factor import (
    new_recovery_codes,
    new_totp_secret,
    recovery_digest,
    step_of,
    totp_uri,
)
from openami.headend.accounts.users import (
    AccountError,
    checked_feeders,
    checked_name,
    checked_password,
    role_named,
)
from openami.headend.web.returning import own_path

NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


# --- names and passwords -------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["ada", " Ada ", "ada.l+x@village.example", "a" * 64])
def test_a_name_is_small_letters(text: str) -> None:
    assert checked_name(text) == text.strip().lower()


@pytest.mark.parametrize("text", ["", " ", "a" * 65, "a b", "../x", "ädä", "-x", "a/b", "a\n"])
def test_what_is_no_name_is_refused(text: str) -> None:
    if text.strip().lower() == "a":
        assert checked_name(text) == "a"
        return
    with pytest.raises(AccountError):
        checked_name(text)


@pytest.mark.parametrize("text", ["ninechars", "aaaaaaaaaaaaa", "ada-lovelace", "x" * 257])
def test_a_password_that_is_guessed_is_refused(text: str) -> None:
    with pytest.raises(AccountError):
        checked_password(text, name="ada")
    assert checked_password("ten chars.", name="ada") == "ten chars."


def test_a_scope_and_a_role_are_known_words() -> None:
    assert checked_feeders(["", " north "]) == frozenset({"north"})
    assert checked_feeders([]) is None
    with pytest.raises(AccountError):
        checked_feeders(["no such/thing"])
    assert [role_named(role.word) for role in Role] == list(Role)
    with pytest.raises(AccountError):
        role_named("Engineer")


# --- secrets -------------------------------------------------------------------------------------


def test_a_mistyped_token_is_seen() -> None:
    token = new_token(lambda n: bytes(range(n)))
    assert token.startswith("oami_")
    assert is_token(token)
    for at in range(len(token)):
        wrong = "A" if token[at] != "A" else "B"
        assert not is_token(token[:at] + wrong + token[at + 1 :])
        assert not is_token(token[:at])


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    assert is_token(text) is False or text.startswith("oami_")
    assert len(digest_of(Kind.LINK, text)) == 64


def test_a_secret_of_one_kind_is_none_of_another() -> None:
    secret = new_secret(bytes)
    assert len({digest_of(kind, secret) for kind in Kind}) == len(Kind)


@pytest.mark.parametrize(
    ("label", "life"),
    [
        ("", HOUR),
        (" ", HOUR),
        ("x" * 61, HOUR),
        ("a\x00b", HOUR),
        ("x", timedelta(0)),
        ("x", timedelta(days=TOKEN_DAYS_MAX, seconds=1)),
    ],
)
def test_a_token_without_name_or_end_is_not_made(label: str, life: timedelta) -> None:
    with pytest.raises(AccountError):
        made_token(
            bytes, label=label, role=Role.VIEWER, feeders=None, life=life, now=NOW, who="ada"
        )


# --- waiting -------------------------------------------------------------------------------------


def test_each_attempt_beyond_the_free_ones_doubles_the_wait() -> None:
    waits = [waits_until(Attempts(FREE_ATTEMPTS + n, NOW)) for n in range(12)]
    seconds = [(until - NOW).total_seconds() for until in waits if until is not None]
    assert seconds == [2, 4, 8, 16, 32, 64, 128, 256, 512, *[WAIT_S_MAX] * 3]
    assert waits_until(Attempts(FREE_ATTEMPTS - 1, NOW)) is None
    assert waits_until(Attempts(10**9, NOW)) == NOW + timedelta(seconds=WAIT_S_MAX)


def test_a_day_later_nothing_is_held_against_anybody() -> None:
    late = NOW + timedelta(hours=FORGOTTEN_AFTER_HOURS)
    assert counted(Attempts(40, NOW), late).count == 41
    assert counted(Attempts(40, NOW), late + SECOND) == Attempts(1, late + SECOND)


def test_a_million_attempts_are_twenty_entries() -> None:
    noted = [n for n in range(1, 100_000) if is_worth_noting(Attempts(n, NOW))]
    assert noted[:4] == [5, 6, 8, 12]
    assert len(noted) == 17


def test_an_ipv6_household_is_one_address() -> None:
    assert counted_address("2001:db8:1:2:aaaa::1") == counted_address("2001:db8:1:2:bbbb::2")
    assert counted_address("2001:db8:1:2::1") != counted_address("2001:db8:1:3::1")
    assert counted_address("::ffff:10.0.0.7") == counted_address("10.0.0.7") == "10.0.0.7"
    assert counted_address("fe80::1%eth0") == "fe80::"
    assert counted_address("x" * 1000) == "x" * 64


def test_a_proxy_is_believed_the_last_address_it_added() -> None:
    said = {"x-forwarded-for": "6.6.6.6, 10.0.0.7"}
    assert forwarded_address(said, "192.0.2.1") == "10.0.0.7"
    assert forwarded_address({"x-forwarded-for": "6.6.6.6, unknown"}, "192.0.2.1") == "192.0.2.1"
    assert forwarded_address({}, "192.0.2.1") == "192.0.2.1"


# --- the second factor ---------------------------------------------------------------------------


def test_a_code_is_good_for_half_a_minute_either_way_and_once() -> None:
    secret = new_totp_secret(lambda n: bytes(range(n)))
    code = pyotp.TOTP(secret).at(NOW)
    step = step_of(secret, f"{code[:3]} {code[3:]}", after=0, now=NOW)
    assert step == int(NOW.timestamp()) // 30
    assert step_of(secret, code, after=step, now=NOW) is None
    assert step_of(secret, code, after=0, now=NOW + timedelta(seconds=59)) == step
    assert step_of(secret, code, after=0, now=NOW + timedelta(seconds=61)) is None
    assert step_of(secret, code, after=0, now=NOW - timedelta(seconds=31)) is None
    for wrong in ("", "12345", "1234567", "abcdef", "１２３４５６", code[:-1]):
        assert step_of(secret, wrong, after=0, now=NOW) is None


def test_the_square_says_whose_it_is_and_where() -> None:
    uri = totp_uri("A" * 32, "ada", "ami.example")
    assert uri.startswith("otpauth://totp/OpenAMI:ada%20%28ami.example%29?secret=AAAA")


def test_a_recovery_code_is_read_however_it_is_typed() -> None:
    code = new_recovery_codes(lambda n: bytes(range(n)))[0]
    assert code == "AAAQ-EAYE-AUDA-OCAJ"
    assert recovery_digest(code.lower().replace("-", " ")) == recovery_digest(code)


# --- the way back --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/users?x=1&y=%2F", "/help/problems"])
def test_a_path_of_ours_is_one(path: str) -> None:
    assert own_path(path) == path


@given(st.text())
def test_no_text_leads_elsewhere(text: str) -> None:
    path = own_path(text)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
