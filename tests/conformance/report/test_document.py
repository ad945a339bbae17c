"""A report is believed as it was signed, to the byte, and no other way."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.conformance.report.sample import (
    ENDED,
    FINDINGS,
    SIGNER,
    finding,
    judgement,
    sealed,
    sheets,
)

from openami.conformance.judgement import Evidence
from openami.conformance.report.document import (
    REPORT_BYTES_MAX,
    ReportError,
    ReportFault,
    open_report,
    seal,
)
from openami.conformance.report.writing import FORMATS
from openami.sip.acts import ActType, make_act, signed
from openami.sip.canonical import Document, encode_base64url, read_document
from openami.sip.errors import SipError
from openami.sip.keys import KeySigner

OTHER = KeySigner(Ed25519PrivateKey.from_private_bytes(b"another kit, another private key"))


def fault_of(data: bytes, signed_by: str | None = None) -> ReportFault:
    with pytest.raises(ReportError) as caught:
        open_report(data, signed_by)
    assert caught.value.remedy
    return caught.value.fault


def members_of(data: bytes) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(data)
    return members


def signed_anew(
    members: dict[str, Any],
    signer: KeySigner = SIGNER,
    type_: ActType = ActType.CONFORMANCE,
    iat: int | None = None,
) -> bytes:
    """Sign changed members as the kit would, with whichever key."""
    members = {name: value for name, value in members.items() if name != "signature"}
    document = read_document(rfc8785.dumps(members), REPORT_BYTES_MAX)
    act = make_act(signer, document, type_, iat=int(ENDED.timestamp()) if iat is None else iat)
    return rfc8785.dumps(signed(document.members, [act]))


def test_a_report_says_who_signed_it_and_what() -> None:
    made = sealed()
    read = open_report(made.data)
    assert read.report.judgement == judgement()
    assert read.kid == SIGNER.kid
    assert read.signed_at == ENDED
    assert read.digest == hashlib.sha256(made.data).hexdigest()


def test_the_same_judgement_makes_the_same_bytes() -> None:
    assert sealed().data == sealed().data


def test_a_verdict_that_was_altered_is_told() -> None:
    data = sealed().data.replace(b'"verdict":"failed"', b'"verdict":"passed"', 1)
    assert fault_of(data) is ReportFault.ALTERED


def test_every_changed_byte_is_told() -> None:
    """Every 97th byte of the file, each by one bit: whatever it becomes, it is not believed."""
    data = sealed().data
    for place in range(0, len(data), 97):
        changed = bytearray(data)
        changed[place] ^= 1
        fault_of(bytes(changed))


def test_every_truncation_is_told() -> None:
    data = sealed().data
    for length in range(0, len(data), 89):
        assert fault_of(data[:length]) is ReportFault.NOT_A_REPORT


def test_a_report_that_was_only_printed_anew_is_told_apart() -> None:
    """Its words are those that were signed, and its bytes are not those that the PDF names."""
    data = sealed().data
    for other in (data + b"\n", json.dumps(members_of(data), indent=2).encode()):
        assert fault_of(other) is ReportFault.REWRITTEN


def test_a_duplicate_member_is_refused() -> None:
    data = sealed().data.replace(b'"conforms":false', b'"conforms":false,"conforms":true', 1)
    assert fault_of(data) is ReportFault.NOT_A_REPORT


def test_a_key_that_was_swapped_does_not_verify() -> None:
    members = members_of(sealed().data)
    members["kitKey"] = encode_base64url(OTHER.public.raw)
    assert fault_of(rfc8785.dumps(members)) is ReportFault.ALTERED


def test_a_forger_with_a_key_of_his_own_is_found_by_its_thumbprint() -> None:
    """Without the thumbprint nobody can tell: whose key it is stands in no file."""
    members = members_of(sealed().data)
    members["kitKey"] = encode_base64url(OTHER.public.raw)
    forged = signed_anew(members, OTHER)
    assert open_report(forged).kid == OTHER.kid
    assert fault_of(forged, SIGNER.kid) is ReportFault.ANOTHER_KEY
    assert open_report(sealed().data, SIGNER.kid).kid == SIGNER.kid


def test_a_report_without_signature_is_told() -> None:
    members = members_of(sealed().data)
    del members["signature"]
    assert fault_of(rfc8785.dumps(members)) is ReportFault.UNSIGNED


@pytest.mark.parametrize("type_", [ActType.REPORT, ActType.CERTIFICATE, ActType.BACKLOG])
def test_another_act_of_the_same_key_counts_for_nothing(type_: ActType) -> None:
    assert fault_of(signed_anew(members_of(sealed().data), type_=type_)) is ReportFault.ALTERED


def test_two_acts_are_one_too_many() -> None:
    members = members_of(sealed().data)
    document = Document(members, b"", "")
    unsigned = {name: value for name, value in members.items() if name != "signature"}
    again = make_act(
        SIGNER, read_document(rfc8785.dumps(unsigned), REPORT_BYTES_MAX), ActType.COMMAND, iat=1
    )
    members["signature"] = f"{document.members['signature']} {again}"
    assert fault_of(rfc8785.dumps(members)) is ReportFault.ALTERED


@pytest.mark.parametrize(
    "change",
    [
        {"format": "openami-conformance-report/2"},
        {"kitKey": ""},
        {"kitKey": encode_base64url(b"\0" * 32)},  # a point of small order signs anything
        {"unknown": 1},
        {"judgement": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_signed_and_no_report_is_refused(change: dict[str, Any]) -> None:
    data = signed_anew({**members_of(sealed().data), **change})
    assert fault_of(data) is ReportFault.NOT_A_REPORT


def test_a_report_that_contradicts_itself_is_refused_though_signed() -> None:
    members = members_of(sealed().data)
    members["judgement"]["conforms"] = True
    assert fault_of(signed_anew(members)) is ReportFault.CONTRADICTORY
    members = members_of(sealed().data)
    assert fault_of(signed_anew(members, iat=1)) is ReportFault.CONTRADICTORY


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 1000, b'{"a":NaN}'])
def test_other_files_are_no_reports(data: bytes) -> None:
    assert fault_of(data) is ReportFault.NOT_A_REPORT


def test_a_file_that_is_too_large_is_not_read() -> None:
    assert fault_of(b" " * (REPORT_BYTES_MAX + 1)) is ReportFault.NOT_A_REPORT


def test_what_a_vendor_sends_cannot_keep_the_report_from_being_made() -> None:
    """Half a surrogate pair has no UTF-8, and brackets in a text are not depth."""
    evil = "\ud800 \x00 [[[[[[[[[[ {{{{{{{{{{ \\"
    findings = (
        finding("OA-TOP-001", evidence=(Evidence(ENDED, evil, evil, evil, evil),)),
        *FINDINGS,
    )
    made = seal(judgement(findings), sheets(), SIGNER, now=ENDED)
    (shown,) = open_report(made.data).report.judgement.findings[0].evidence
    assert shown.excerpt == "? \x00 [[[[[[[[[[ {{{{{{{{{{ \\"


def places_in(value: Any, *place: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield where something stands in a document; of a list the first."""
    yield place
    if isinstance(value, dict):
        for name, member in value.items():
            yield from places_in(member, *place, name)
    elif isinstance(value, list):
        for index, item in enumerate(value[:1]):
            yield from places_in(item, *place, index)


STRANGE: tuple[object, ...] = (None, -1, "x", "0001-01-01T00:00:00+14:00")


@pytest.mark.slow
def test_a_stranger_who_signs_a_strange_report_breaks_nobody_who_reads_it() -> None:
    """Anybody can make a key. Whatever stands at any place: it is refused, or every format can be made of it."""
    whole = members_of(sealed().data)
    del whole["signature"]
    believed = 0
    for *above, last in [place for place in places_in(whole) if place]:
        for strange in STRANGE:
            members = json.loads(json.dumps(whole))
            at = members
            for part in above:
                at = at[part]
            at[last] = strange
            try:
                report = open_report(signed_anew(members))
            except (ReportError, SipError):  # the latter: it cannot even be signed
                continue
            believed += 1
            for format_, every in (("text", 1), ("junit", 5), ("html", 5), ("pdf", 50)):
                if believed % every == 0:
                    assert FORMATS[format_](report)
    assert believed > 100
