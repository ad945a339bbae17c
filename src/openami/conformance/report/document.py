"""The report as a document: judgement and sheets in canonical JSON, signed by the kit (decision 0047; pure).

The file *is* the RFC 8785 form, signature and all, so that there is one file for one report: a byte that was
changed is told even where it changes no meaning, and the file's SHA-256 names it. Text, HTML and PDF carry that
digest. The kit's public key stands in the document. Whose key it is nobody can read off it: a reader compares
its thumbprint with the one the kit's owner tells, or has the verifier do it.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
import rfc8785

from openami.conformance.bandwidth import BandwidthSheet
from openami.conformance.coverage import CoverageSheet
from openami.conformance.gap_matrix import GapMatrix
from openami.conformance.judgement import Judgement
from openami.conformance.missing import MissingSheet
from openami.conformance.sheets import Sheets
from openami.sip.acts import ActType, make_act, signed, verified_acts
from openami.sip.canonical import (
    SIGNATURE,
    canonical_bytes,
    encode_base64url,
    read_document,
)
from openami.sip.errors import SipCode, SipError
from openami.sip.keys import KeySigner, PublicKey

FORMAT: Final = "openami-conformance-report/1"
# 500 meters with every register, two days of missing hours each, and a hundred findings with their excerpts.
REPORT_BYTES_MAX: Final = 16 * 1024 * 1024


class TranscriptDigest(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which transcript the findings were made from; ``whole`` is False where it reached its bound."""

    sha256: str
    observations: int
    whole: bool


class Report(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What the kit signs. ``kit_key`` is its public key, base64url of the raw bytes."""

    format: str
    made_at: datetime
    kit_key: str
    judgement: Judgement
    gaps: GapMatrix
    coverage: CoverageSheet | None = None
    missing: MissingSheet | None = None
    bandwidth: BandwidthSheet | None = None
    transcript: TranscriptDigest | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A report whose signature holds: by which key, when, and the SHA-256 of its file in hex."""

    report: Report
    kid: str
    signed_at: datetime
    digest: str
    data: bytes


class ReportFault(StrEnum):
    """Why a report is not to be believed; stable."""

    NOT_A_REPORT = "NOT_A_REPORT"
    UNSIGNED = "UNSIGNED"
    ALTERED = "ALTERED"
    REWRITTEN = "REWRITTEN"
    ANOTHER_KEY = "ANOTHER_KEY"
    CONTRADICTORY = "CONTRADICTORY"


_REMEDIES: Final = {
    ReportFault.NOT_A_REPORT: "name the report.json that the kit has written; a copy may be cut off: copy it again",
    ReportFault.UNSIGNED: "ask whoever made it for the file that the kit has signed",
    ReportFault.ALTERED: "believe nothing of it: ask whoever made it for the file itself",
    ReportFault.REWRITTEN: "what it says was not changed, but its PDF names another file: ask for the "
    "file itself",
    ReportFault.ANOTHER_KEY: "ask the one who judged for the thumbprint of the kit's key",
    ReportFault.CONTRADICTORY: "believe nothing of it: what was signed does not agree with itself",
}


class ReportError(Exception):
    """A report that is none, or is not to be believed."""

    def __init__(self, fault: ReportFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.remedy = _REMEDIES[fault]


def seal(
    judgement: Judgement,
    sheets: Sheets,
    signer: KeySigner,
    *,
    now: datetime,
    transcript: TranscriptDigest | None = None,
) -> Sealed:
    """Return the report, signed."""
    report = Report(
        format=FORMAT,
        made_at=now,
        kit_key=encode_base64url(signer.public.raw),
        judgement=judgement,
        gaps=sheets.gaps,
        coverage=sheets.coverage,
        missing=sheets.missing,
        bandwidth=sheets.bandwidth,
        transcript=transcript,
    )
    members: dict[str, Any] = _writable(msgspec.to_builtins(report))
    document = read_document(canonical_bytes(members), REPORT_BYTES_MAX)
    act = make_act(signer, document, ActType.CONFORMANCE, iat=int(now.timestamp()))
    data = rfc8785.dumps(signed(document.members, [act]))
    return open_report(data)  # one judge for both directions


def open_report(data: bytes, signed_by: str | None = None) -> Sealed:
    """Return what a report's bytes say, every one of them as it was signed. Raises ReportError.

    ``signed_by`` is the thumbprint of the key it has to be signed with.
    """
    try:
        document = read_document(data, REPORT_BYTES_MAX)
        report = msgspec.convert(
            {name: value for name, value in document.members.items() if name != SIGNATURE}, Report
        )
        key = PublicKey.parse(report.kit_key)
    except SipError as error:
        raise ReportError(ReportFault.NOT_A_REPORT, error.detail) from None
    except msgspec.ValidationError as error:
        raise ReportError(ReportFault.NOT_A_REPORT, str(error)) from None
    if report.format != FORMAT:
        raise ReportError(ReportFault.NOT_A_REPORT, f"the format {FORMAT} is asked for")
    try:
        (act,) = verified_acts(document, {key.kid: key})
        if act.type is not ActType.CONFORMANCE:
            raise SipError(SipCode.WRONG_TYPE, f"{act.type} is no act over a report")
    except SipError as error:
        unsigned = error.code is SipCode.NO_SIGNATURE
        raise ReportError(
            ReportFault.UNSIGNED if unsigned else ReportFault.ALTERED, error.detail
        ) from None
    except ValueError:
        raise ReportError(ReportFault.ALTERED, "one act by the kit is asked for") from None
    if signed_by is not None and key.kid != signed_by:
        raise ReportError(ReportFault.ANOTHER_KEY, f"it is signed by {key.kid}, not by {signed_by}")
    if data != rfc8785.dumps(document.members):
        raise ReportError(
            ReportFault.REWRITTEN, f"{key.kid} signed what it says, in a file of other bytes"
        )
    _check_times(report)
    _check_agreement(report, act.iat)
    return Sealed(
        report,
        key.kid,
        datetime.fromtimestamp(act.iat, UTC),
        hashlib.sha256(data).hexdigest(),
        data,
    )


def _writable(value: Any) -> Any:
    """Return JSON values with each half of a surrogate pair replaced: a vendor's bytes must not end the report."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {name: _writable(member) for name, member in value.items()}
        case list() | tuple():
            return [_writable(item) for item in value]
        case _:
            return value


def _check_times(report: Report) -> None:
    """Refuse times that are not UTC's: what has no zone, or one that leads beyond the calendar, cannot be told."""
    judgement = report.judgement
    told = (each.at for finding in judgement.findings for each in finding.evidence)
    for at in (report.made_at, judgement.began_at, judgement.ended_at, *told):
        if at.utcoffset() != timedelta(0):
            raise ReportError(ReportFault.NOT_A_REPORT, f"{at.isoformat()} is not a time of UTC")


def _check_agreement(report: Report, iat: int) -> None:
    judgement = report.judgement
    if judgement.conforms and any(each.verdict == "failed" for each in judgement.findings):
        raise ReportError(
            ReportFault.CONTRADICTORY, "it says that it conforms, and that something failed"
        )
    if int(report.made_at.timestamp()) != iat:
        raise ReportError(ReportFault.CONTRADICTORY, "it was not signed when it was made")
