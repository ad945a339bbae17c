"""Vectors that nobody here wrote: RFC 8032, RFC 8037, RFC 8785, Wycheproof; the small-order points, computed."""

import json
from pathlib import Path
from typing import Any

import jcs  # type: ignore[import-untyped]
import pytest
from tests.cases import in_one_test
from tests.sip.attacks import NOT_CANONICAL, SMALL_ORDER
from tests.sip.village import HES, key

from openami.sip.canonical import canonical_bytes
from openami.sip.errors import SipCode, SipError
from openami.sip.keys import PublicKey, thumbprint

DATA = Path(__file__).parent / "data"


def load(name: str) -> dict[str, Any]:
    content = json.loads((DATA / name).read_text())
    assert isinstance(content, dict)
    return content


RFC_8032 = load("rfc8032_ed25519.json")["tests"]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["name"]) for c in RFC_8032])
def test_rfc_8032(case: dict[str, str]) -> None:
    signer, message = key(case["secret"]), bytes.fromhex(case["message"])
    assert signer.public.raw.hex() == case["public"]
    assert signer.sign(message).hex() == case["signature"]
    assert signer.public.verify(bytes.fromhex(case["signature"]), message)
    assert not signer.public.verify(bytes.fromhex(case["signature"]), message + b"\0")


def test_rfc_8037_thumbprint() -> None:
    """Appendix A.3, of the key of RFC 8032's first test."""
    assert HES.kid == thumbprint(HES.public.raw) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


WYCHEPROOF = load("wycheproof_ed25519_test.json")
CASES = [
    (group["publicKey"]["pk"], case)
    for group in WYCHEPROOF["testGroups"]
    for case in group["tests"]
]


def test_wycheproof_is_whole() -> None:
    assert len(CASES) == WYCHEPROOF["numberOfTests"] >= 151


@in_one_test(CASES, name=lambda of: f"{of[1]['tcId']} {of[1]['comment']}")
def test_wycheproof(of: tuple[str, dict[str, Any]]) -> None:
    """What is acceptable is free: a key outside the large subgroup, whose holder alone could make two verifiers
    disagree. Of these the ones of small order are refused as keys, because anybody could sign under them.
    """
    public, case = of
    if "SmallOrderPublicKey" in case["flags"]:
        with pytest.raises(SipError, match=SipCode.WEAK_KEY):
            PublicKey(bytes.fromhex(public))
        return
    verifier = PublicKey(bytes.fromhex(public))
    verified = verifier.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
    assert case["result"] == "acceptable" or verified == (case["result"] == "valid")


@pytest.mark.parametrize("name", sorted(path.name for path in (DATA / "rfc8785/input").iterdir()))
def test_rfc_8785(name: str) -> None:
    value = json.loads((DATA / "rfc8785/input" / name).read_bytes())
    wanted = (DATA / "rfc8785/output" / name).read_bytes()
    assert canonical_bytes({"of": value}) == b'{"of":' + wanted + b"}"
    assert jcs.canonicalize(value) == wanted


# --- the curve, by hand --------------------------------------------------------------------------

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int]


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P,
    )


def times(count: int, point: Point) -> Point:
    total = (0, 1)
    while count:
        if count & 1:
            total = add(total, point)
        point, count = add(point, point), count >> 1
    return total


def x_of(y: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if (root * root - square) % P:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root if (root * root - square) % P == 0 else None


def small_order_points() -> set[Point]:
    """All eight: any point, times the order of the large subgroup, until one generates them."""
    found: set[Point] = set()
    y = 2
    while len(found) < 8:
        x = x_of(y)
        if x is not None:
            small = times(ORDER, (x, y))
            found |= {times(count, small) for count in range(8)}
        y += 1
    return found


def test_all_eight_points_of_small_order_are_refused() -> None:
    spelled = {(y | (x & 1) << 255).to_bytes(32, "little").hex() for x, y in small_order_points()}
    assert spelled == set(SMALL_ORDER.values())
    for text in [*SMALL_ORDER.values(), *NOT_CANONICAL.values()]:
        with pytest.raises(SipError) as caught:
            PublicKey(bytes.fromhex(text))
        assert caught.value.code is SipCode.WEAK_KEY


def test_a_point_beside_them_is_not() -> None:
    """y = 3 and y = p - 2 are no such points: whoever refuses more than eight refuses honest keys."""
    for y in (3, P - 3):
        assert PublicKey(y.to_bytes(32, "little")).raw == y.to_bytes(32, "little")
    with pytest.raises(SipError):
        PublicKey(bytes(31))
