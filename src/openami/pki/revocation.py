"""The list of revoked certificates (pure).

The broker reads it from a file the operator puts there, so its end date protects from nothing: nobody on the
way could hold a newer list back. But past that date mosquitto refuses EVERY client, a village in the dark for
want of a cron job. So a list is good for as long as the authority itself.
"""

from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from openami.pki.certificates import BACK_DATED, Authority


def revocation_list(
    authority: Authority, revoked: Mapping[int, datetime], *, now: datetime, number: int
) -> x509.CertificateRevocationList:
    """Return the signed list of serial numbers and when each was revoked; ``number`` only ever grows."""
    issuer = authority.certificate
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        # Back-dated as the certificates are: a broker that starts in the past must not lock all out.
        .last_update((now - BACK_DATED).replace(microsecond=0))
        .next_update(issuer.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    for serial, since in sorted(revoked.items()):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(since.replace(microsecond=0))
            .build()
        )
    return builder.sign(authority.key, hashes.SHA256())
