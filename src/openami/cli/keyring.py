"""``openami keyring``: who may do what; made by the operator, signed by the roots, offline."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from openami.cli.files import A_PATH
from openami.cli.headend_enrolment import gateway_name, read_small
from openami.cli.headend_init import directory_option
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.village import HES, OPERATOR, Village, VillageError
from openami.keyfiles import KeyFileError, load_roots, load_signer, write_private, write_public
from openami.pki.enrolment import EnrolmentError, read_request
from openami.sip import keyring_draft as draft
from openami.sip.actions import Role
from openami.sip.acts import ActType, read_acts, verified_acts
from openami.sip.canonical import SIGNATURE, read_document
from openami.sip.compose import document_of, sign
from openami.sip.errors import SipCode, SipError
from openami.sip.keyring import KeyringContent, Limits, Roots, admit_keyring, read_keyring
from openami.sip.keys import PublicKey

_ADDABLE = [Role.HES.value, Role.OPERATOR.value, Role.MARKET.value]


@click.group()
def keyring() -> None:
    """Keyrings: every key, role, right and limit of a feeder, signed by the operator's roots.

    A change makes the next version as a draft. `sign` it where the roots are, then `publish` it.
    """


@keyring.command()
@click.argument("file", required=False, type=A_PATH)
@click.option("--feeder", metavar="ID", help="The newest of a feeder's, instead of a file.")
@directory_option
@json_option
def show(file: Path | None, feeder: str | None, directory: Path, as_json: bool) -> None:
    """Show a keyring, and whether enough roots signed it."""
    village = Village(directory)
    if file is None:
        members = _latest(village, _feeder(village, feeder))
    else:
        members = _read(file)
    content = _content(members)
    roots = _pins(village)
    signers = _signers(members, content, roots)
    if as_json:
        print_json({**members, "signedBy": signers, "complete": _complete(members, content, roots)})
        return
    click.echo(
        f"feeder {content.feeder_id}, gateway {content.gateway_id}, version {content.version}"
    )
    click.echo(f"valid  {members['validFrom']} … {members['validTo']}")
    click.echo(f"signed {_signed(members, content, roots, signers)}")
    scope = members["feederScope"]
    for name in ("meters", "limits", "protected", "protectedHours", "rootThreshold"):
        if name in scope:
            click.echo(f"{name}: {json.dumps(scope[name])}")
    click.echo()
    rows = [
        [each.id, each.role, ", ".join(sorted(each.can)) or "-", kid]
        for kid, each in content.identities.items()
    ]
    print_table(["id", "role", "can", "kid"], rows)


@keyring.command()
@click.option("--feeder", metavar="ID", required=True)
@directory_option
def new(feeder: str, directory: Path) -> None:
    """Make a feeder's first keyring, or its next version with new dates, as a draft to be signed."""
    village = Village(directory)
    try:
        if village.latest_keyring(feeder) is not None:
            _change(village, feeder, dict)
            return
        identities = [
            draft.identity(HES, Role.HES, load_signer(village.key_file(HES)).public),
            draft.identity(OPERATOR, Role.OPERATOR, load_signer(village.key_file(OPERATOR)).public),
        ]
        members = draft.first_keyring(
            identities, feeder_id=feeder, limits=Limits(2), now=SystemClock().now()
        )
        _tell_draft(village.save_keyring(members))
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except SipError as error:
        fail(str(error), Exit.USAGE)


@keyring.command("add-gateway")
@click.argument("gateway", metavar="FEEDER/GATEWAY")
@click.option(
    "--request",
    metavar="FILE",
    type=A_PATH,
    help="Its request, instead of what the register knows of it.",
)
@directory_option
def add_gateway(gateway: str, request: Path | None, directory: Path) -> None:
    """Add a gateway's key to the next version."""
    name, village = gateway_name(gateway), Village(directory)
    if request is None:
        with village.register() as register:
            known = register.gateway(str(name))
        if known is None or known.revoked_at is not None:
            fail(f"{name} is not enrolled", Exit.FAILED, "enrol it, or name its --request")
        raw = known.sip_key
    else:
        try:
            asked = read_request(read_small(request))
        except EnrolmentError as error:
            fail(str(error), Exit.REFUSED)
        if asked.name != name:
            fail(f"{request} is the request of {asked.name}", Exit.USAGE)
        raw = asked.sip_key.raw
    added = draft.identity(name.gateway_id, Role.GATEWAY, PublicKey(raw))
    _change(village, name.feeder_id, lambda members: draft.with_identity(members, added))


@keyring.command()
@click.argument("id_", metavar="ID")
@click.option("--role", type=click.Choice(_ADDABLE), required=True)
@click.option("--key", "public", metavar="KEY", required=True, help="Public key, base64url.")
@click.option("--feeder", metavar="ID")
@directory_option
def add(id_: str, role: str, public: str, feeder: str | None, directory: Path) -> None:
    """Add a head-end, a person or a market participant to the next version."""
    village = Village(directory)
    try:
        added = draft.identity(id_, Role(role), PublicKey.parse(public))
    except SipError as error:
        fail(f"--key: {error}", Exit.USAGE)
    _change(village, _feeder(village, feeder), lambda members: draft.with_identity(members, added))


@keyring.command()
@click.argument("id_", metavar="ID")
@click.option("--feeder", metavar="ID")
@directory_option
def remove(id_: str, feeder: str | None, directory: Path) -> None:
    """Leave an identity out of the next version: what its key signs is worth nothing from then on."""
    village = Village(directory)
    _change(village, _feeder(village, feeder), lambda members: draft.without_identity(members, id_))


@keyring.command("set")
@click.option("--feeder", metavar="ID")
@click.option("--disconnects-per-hour", type=int, help="For each gateway, whoever asks.")
@click.option("--meter", "meters", multiple=True, metavar="SERIAL", help="Only these; * for all.")
@click.option(
    "--protect", multiple=True, metavar="SERIAL", help="Two persons cut it off; - for none."
)
@click.option(
    "--hours", multiple=True, metavar="HH:MM-HH:MM", help="UTC, no disconnects; - for none."
)
@directory_option
def set_(
    feeder: str | None,
    disconnects_per_hour: int | None,
    meters: tuple[str, ...],
    protect: tuple[str, ...],
    hours: tuple[str, ...],
    directory: Path,
) -> None:
    """Set limits, meters, protected meters and hours of the next version."""
    village = Village(directory)

    def changed(members: Mapping[str, Any]) -> Mapping[str, Any]:
        if disconnects_per_hour is not None:
            members = draft.with_limits(members, Limits(disconnects_per_hour))
        if meters:
            members = draft.with_meters(members, meters)
        if protect:
            members = draft.with_protected(members, [s for s in protect if s != "-"])
        if hours:
            members = draft.with_protected_hours(members, [_span(t) for t in hours if t != "-"])
        return members

    _change(village, _feeder(village, feeder), changed)


@keyring.command("sign")
@click.argument("file", type=A_PATH)
@click.option(
    "--key",
    "key_files",
    metavar="FILE",
    multiple=True,
    required=True,
    type=A_PATH,
    help="A root key; repeatable.",
)
@directory_option
def sign_(file: Path, key_files: tuple[Path, ...], directory: Path) -> None:
    """Sign a keyring with root keys, on any machine: the file is all that is needed.

    Several roots sign one after the other, each on a machine of its own; the file goes from one to the next.
    """
    members = _read(file)
    content = _content(members)
    try:
        for key_file in key_files:
            signer = load_signer(key_file)
            if signer.kid in _act_kids(members):
                say(f"{key_file} has signed it already")
                continue
            members = sign(
                members, signer, ActType.KEYRING, iat=int(SystemClock().now().timestamp())
            )
        private = file.stat().st_mode & 0o077 == 0
        (write_private if private else write_public)(file, _printed(members))
    except KeyFileError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except SipError as error:
        fail(str(error), Exit.FAILED)
    roots = _pins(Village(directory))
    signers = _act_kids(members)
    say(f"{file}: version {content.version}, signed by {', '.join(signers)}")
    if roots is not None:
        say(_signed(members, content, roots, signers))


@keyring.command()
@click.argument("file", type=A_PATH)
@click.option("--print", "to_print", is_flag=True, help="Print it, for a stick; needs no store.")
@directory_option
@store_option
@json_option
def publish(file: Path, to_print: bool, directory: Path, store: str, as_json: bool) -> None:
    """Hand a signed keyring to the head-end, which sends it to every gateway it is for.

    A keyring proves itself, so any other way will do as well. `openami session list` and the audit log show
    which gateway has accepted which version.
    """
    from openami.cli.command_rows import who_asks
    from openami.headend.audit import Entry
    from openami.headend.store import Access
    from openami.headend.store.commands import StoredKeyring

    members = _read(file)
    content = _content(members)
    roots = _pins(Village(directory))
    if roots is None:
        fail(f"{directory} has no roots to judge it by", Exit.USAGE, "name it with --dir")
    _check_complete(members, content, roots)
    payload = json.dumps(members, separators=(",", ":")).encode()
    if to_print:
        click.echo(payload.decode())
        return
    digest = document_of(members).digest
    stored = StoredKeyring(
        feeder_id=content.feeder_id,
        gateway_id=content.gateway_id,
        version=content.version,
        document=payload,
        added_at=SystemClock().now(),
        added_by=who_asks(),
    )
    entry = Entry(who=who_asks(), what="keyring given to the head-end", digest=digest)
    added = with_store(store, lambda opened: opened.add_keyring(stored, entry), Access.EDIT)
    if as_json:
        print_json({"version": content.version, "digest": digest, "added": added})
    elif added:
        say(f"version {content.version} of {content.feeder_id} is with the head-end")
    else:
        say(f"version {content.version} of {content.feeder_id} was there already")


# --- what they share -------------------------------------------------------------------------------


def _change(
    village: Village, feeder_id: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> None:
    """Write the change into the draft that waits, or into a new one after the last signed version."""
    try:
        latest = _latest(village, feeder_id)
        now = SystemClock().now()
        if _complete(latest, read_keyring(latest), village.roots()):
            members: Mapping[str, Any] = draft.next_version(latest, now=now)
        else:
            members = {name: value for name, value in latest.items() if name != SIGNATURE}
            if SIGNATURE in latest:
                say("the draft had been signed in part: it has to be signed anew")
        _tell_draft(village.save_keyring(dict(change(members))))
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except SipError as error:
        fail(str(error), Exit.USAGE)


def _latest(village: Village, feeder_id: str) -> dict[str, Any]:
    try:
        members = village.latest_keyring(feeder_id)
    except VillageError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    if members is None:
        fail(f"there is no keyring for {feeder_id}", Exit.FAILED, "openami keyring new --feeder ID")
    return members


def _feeder(village: Village, feeder: str | None) -> str:
    """Return the feeder that is meant: the one there is, where only one is."""
    if feeder is not None:
        return feeder
    found = village.feeders()
    if len(found) != 1:
        fail(
            f"there are {len(found)} feeders: {', '.join(found)}", Exit.USAGE, "name one: --feeder"
        )
    return found[0]


def _pins(village: Village) -> Roots | None:
    if not village.roots_file.exists():
        return None
    try:
        return load_roots(village.roots_file)
    except KeyFileError as error:
        fail(str(error), Exit.FAILED, error.remedy)


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_document(read_small(file)).members
    except SipError as error:
        fail(f"{file}: {error}", Exit.FAILED)


def _content(members: Mapping[str, Any]) -> KeyringContent:
    try:
        return read_keyring(members)
    except SipError as error:
        fail(f"not a keyring a gateway would read: {error}", Exit.FAILED)


def _act_kids(members: Mapping[str, Any]) -> list[str]:
    if SIGNATURE not in members:
        return []
    return [act.kid for act in read_acts(document_of(members))]


def _signers(members: Mapping[str, Any], content: KeyringContent, roots: Roots | None) -> list[str]:
    """Return who signed it; verified where the roots are known."""
    try:
        if roots is not None and SIGNATURE in members:
            verified_acts(document_of(members), {**roots.keys, **content.new_roots})
        return _act_kids(members)
    except SipError as error:
        fail(f"its signature: {error}", Exit.REFUSED)


def _complete(members: Mapping[str, Any], content: KeyringContent, roots: Roots | None) -> bool:
    if roots is None:
        return False
    try:
        _admit(members, content, roots)
    except SipError:
        return False
    return True


def _check_complete(members: Mapping[str, Any], content: KeyringContent, roots: Roots) -> None:
    try:
        _admit(members, content, roots)
    except SipError as error:
        remedy = "sign it with more roots" if error.code is SipCode.QUORUM else ""
        fail(f"no gateway would take it: {error}", Exit.REFUSED, remedy)


def _admit(members: Mapping[str, Any], content: KeyringContent, roots: Roots) -> None:
    admit_keyring(
        document_of(members),
        roots=roots,
        in_force=0,
        feeder_id=content.feeder_id,
        gateway_id=content.gateway_id,
    )


def _signed(
    members: Mapping[str, Any], content: KeyringContent, roots: Roots | None, signers: list[str]
) -> str:
    if roots is None:
        return f"by {', '.join(signers) or 'nobody'} (no roots here to judge it by)"
    if _complete(members, content, roots):
        return f"by enough of the roots ({roots.threshold} of {len(roots.keys)})"
    have = len(set(signers) & set(roots.keys))
    return f"by {have} of the {roots.threshold} roots that have to: a draft"


def _tell_draft(file: Path) -> None:
    click.echo(str(file))
    say(f"a draft; sign it: openami keyring sign {file} --key ROOT, then publish it")


def _span(text: str) -> tuple[str, str]:
    begin, dash, end = text.partition("-")
    if not dash:
        fail(f"{text!r} is not HH:MM-HH:MM", Exit.USAGE)
    return begin, end


def _printed(members: Mapping[str, Any]) -> bytes:
    return (json.dumps(members, indent=1) + "\n").encode()
