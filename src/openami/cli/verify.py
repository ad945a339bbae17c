"""``openami verify``: what a file proves to whoever has the operator's roots; no network, no store."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from openami.cli.files import A_FILE
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import Row
from openami.cli.storage import json_option
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.sip.certificate import Verified
    from openami.sip.keyring import Keyring, Roots

# The pins of a village are a few hundred bytes; another file named by mistake is not read whole.
_ROOTS_BYTES_MAX = 64 * 1024


@click.command()
@click.argument("file", metavar="FILE", type=A_FILE)
@click.option(
    "--roots",
    "roots_file",
    metavar="FILE",
    required=True,
    type=A_FILE,
    help="The village's roots.json, got from the operator by a way of its own.",
)
@click.option(
    "--keyring",
    "keyring_files",
    metavar="FILE",
    multiple=True,
    type=A_FILE,
    help="For a carried backlog, or a record without one: the feeder's keyring, older ones first.",
)
@json_option
def verify(file: Path, roots_file: Path, keyring_files: tuple[Path, ...], as_json: bool) -> None:
    """Say who signed FILE, whether the roots vouch for them, and what it proves.

    FILE is a daily certificate (`openami feeder certificate`), a carried backlog (`openami gateway export`) or a
    commissioning record (`openami gateway commission record`). Exit code 0: every signature holds, a certificate's
    two accounts agree, a record was accepted; 1: the accounts differ, the record was not accepted, or the file is
    damaged; 4: somebody has to be disbelieved.
    """
    roots = _roots(roots_file)
    if _is_backlog(file):
        _verify_backlog(file, roots, keyring_files, as_json=as_json)
    elif _is_record(file):
        _verify_record(file, roots, keyring_files, as_json=as_json)
    else:
        _verify_certificate(file, roots, as_json=as_json)


def _is_backlog(file: Path) -> bool:
    """A backlog is packed, or says in its first line what it is."""
    from openami.sip.carried import BacklogReader, CarriedError, Fault

    try:
        with file.open("rb", buffering=0) as opened:
            BacklogReader(opened)
    except CarriedError as error:
        with file.open("rb") as opened:
            packed = opened.read(2) == b"\x1f\x8b"
        return packed or error.fault is Fault.NEWER_FORMAT
    except OSError as error:
        fail(f"{file}: {error.strerror}", Exit.FAILED)
    return True


# --- daily certificates --------------------------------------------------------------------------


def _verify_certificate(file: Path, roots: "Roots", *, as_json: bool) -> None:
    from openami.sip.certificate import (
        CERTIFICATE_BYTES_MAX,
        CertificateError,
        CertificateFault,
        verify_certificate,
    )

    with file.open("rb") as opened:
        payload = opened.read(CERTIFICATE_BYTES_MAX + 1)
    try:
        verified = verify_certificate(payload, roots)
    except CertificateError as error:
        damaged = error.fault is CertificateFault.NOT_A_CERTIFICATE
        _refuse(
            f"{file}: {error.fault}: {error}",
            str(error.fault),
            Exit.FAILED if damaged else Exit.REFUSED,
            error.remedy,
            as_json=as_json,
        )
    if as_json:
        print_json(_certificate_row(verified))
    else:
        tell_certificate(verified)
    if not verified.complete:
        sys.exit(Exit.FAILED)


def _certificate_row(verified: "Verified") -> Row:
    return {
        "kind": "certificate",
        "verified": True,
        "fault": None,
        "feederId": verified.feeder_id,
        "gatewayId": verified.gateway_id,
        "day": str(verified.day),
        "statedBy": verified.stated_by.key.kid,
        "statedAt": utc_text(verified.stated_at),
        "certifiedBy": verified.certified_by.id,
        "certifiedByKey": verified.certified_by.key.kid,
        "certifiedAt": utc_text(verified.certified_at),
        "keyrings": list(verified.keyring_versions),
        "meters": verified.meters,
        "readings": verified.readings,
        "complete": verified.complete,
        "differences": [
            {"meter": d.meter, "stated": d.stated, "stored": d.stored, "thinned": d.thinned}
            for d in verified.differences
        ],
    }


def tell_certificate(verified: "Verified") -> None:
    """Say to a person, on stderr, what a certificate proves."""
    versions = ", ".join(map(str, verified.keyring_versions))
    say(f"{verified.feeder_id}/{verified.gateway_id} on {verified.day}, by UTC")
    say(f"  stated by the gateway's key {verified.stated_by.key.kid}, {verified.stated_at:%F %T}")
    say(f"  certified by {verified.certified_by.id}, {verified.certified_at:%F %T}")
    say(f"  the roots vouch for both (keyring {versions})")
    if verified.complete:
        say(f"  complete: {verified.readings} readings of {verified.meters} meters, at both ends")
        return
    say(f"  INCOMPLETE: {len(verified.differences)} of {verified.meters} meters differ")
    for each in verified.differences:
        thinned = f"; {each.thinned} envelopes thinned by rule" if each.thinned else ""
        say(f"    {each.meter}: {each.stated} recorded, {each.stored} stored{thinned}")


# --- carried backlogs ----------------------------------------------------------------------------


def _verify_backlog(
    file: Path, roots: "Roots", keyring_files: tuple[Path, ...], *, as_json: bool
) -> None:
    from openami.headend.carried import prove
    from openami.sip.carried import CarriedError, Fault, check_signer

    try:
        proven = prove(file)
        header = proven.header
        keyring = _newest(keyring_files, roots, header.feeder_id, header.gateway_id)
        check_signer(header, proven.seal, keyring)
    except CarriedError as error:
        disbelieved = error.fault in (Fault.UNSIGNED, Fault.NOT_BELIEVED, Fault.FOREIGN)
        remedy = error.remedy
        if error.fault is Fault.NOT_BELIEVED and not keyring_files:
            remedy = "name the feeder's keyring with --keyring"
        _refuse(
            f"{file}: {error.fault}: {error}",
            str(error.fault),
            Exit.REFUSED if disbelieved else Exit.FAILED,
            remedy,
            as_json=as_json,
        )
    row = {
        "kind": "backlog",
        "verified": True,
        "fault": None,
        "feederId": header.feeder_id,
        "gatewayId": header.gateway_id,
        "madeAt": utc_text(header.made_at),
        "scope": str(header.scope),
        "messages": header.messages,
        "firstSeq": header.first_seq,
        "lastSeq": header.last_seq,
    }
    if as_json:
        print_json(row)
    else:
        say(
            f"{header.feeder_id}/{header.gateway_id}: {header.messages} messages, whole, and signed by that "
            f"gateway on {header.made_at:%F %T}"
        )


# --- commissioning records -----------------------------------------------------------------------


def _is_record(file: Path) -> bool:
    from openami.sip.commissioning_record import is_record

    return is_record(_record_bytes(file))


def _record_bytes(file: Path) -> bytes:
    from openami.sip.commissioning_record import RECORD_BYTES_MAX

    with file.open("rb") as opened:
        return opened.read(RECORD_BYTES_MAX + 1)


def _verify_record(
    file: Path, roots: "Roots", keyring_files: tuple[Path, ...], *, as_json: bool
) -> None:
    from openami.cli.headend_enrolment import read_small
    from openami.gateway.commissioning.readable import record_text
    from openami.sip.commissioning_record import RecordError, RecordFault, verify_record

    keyrings = [read_small(each) for each in keyring_files]
    try:
        verified = verify_record(_record_bytes(file), roots, keyrings=keyrings)
    except RecordError as error:
        damaged = error.fault is RecordFault.NOT_A_RECORD
        _refuse(
            f"{file}: {error.fault}: {error}",
            str(error.fault),
            Exit.FAILED if damaged else Exit.REFUSED,
            error.remedy,
            as_json=as_json,
        )
    content = verified.content
    if as_json:
        print_json(
            {
                "kind": "commissioning",
                "verified": True,
                "fault": None,
                "feederId": content.feeder_id,
                "gatewayId": content.gateway_id,
                "signedBy": verified.signed_by.key.kid,
                "signedAt": utc_text(verified.signed_at),
                "madeBy": content.made_by,
                "sha256": verified.sha256,
                "meters": len(content.meters),
                "accepted": verified.accepted,
                "deviations": len(content.deviations),
                "open": [
                    {"rule": p.rule, "about": p.about or None, "what": p.words}
                    for p in verified.open_points
                ],
            }
        )
    else:
        say(record_text(content, verified.sha256).rstrip())
        say(
            f"signed by {content.gateway_id}'s key {verified.signed_by.key.kid}, as the roots vouch"
        )
    if not verified.accepted:
        sys.exit(Exit.FAILED)


def _newest(
    files: tuple[Path, ...], roots: "Roots", feeder_id: str, gateway_id: str
) -> "Keyring | None":
    from openami.cli.headend_enrolment import read_small
    from openami.headend.keyrings import in_force

    found = in_force(
        [read_small(file) for file in files],
        roots=roots,
        feeder_id=feeder_id,
        gateway_id=gateway_id,
    )
    return None if found is None else found.keyring


def _roots(file: Path) -> "Roots":
    """Read public keys from a file that somebody else may have made: what it says is for a person to compare."""
    from openami.keyfiles import read_roots

    try:
        with file.open("rb") as opened:
            return read_roots(json.loads(opened.read(_ROOTS_BYTES_MAX)))
    except ValueError as error:
        fail(f"{file} holds no root pins: {error}", Exit.USAGE, "name the village's roots.json")


def _refuse(message: str, fault: str, code: Exit, remedy: str, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"verified": False, "fault": fault, "why": message, "remedy": remedy})
    fail(message, code, remedy)
