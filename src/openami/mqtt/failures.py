"""What went wrong on the way to the broker, in a sentence, and what a person can do about it.

Pure: an exception or a reason code in, a TransportError out. ``permanent`` is set where trying again
without a change must fail again. A name that does not resolve is not: a gateway that boots before its
network sees the same.
"""

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from openami.mqtt.port import PublishRefused, TransportError
from openami.mqtt.settings import BrokerSettings

# OpenSSL, x509_vfy.h
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = 18
_UNKNOWN_AUTHORITIES = frozenset({2, 19, 20, 21})
_NAME_MISMATCHES = frozenset({62, 64})

# OASIS MQTT 5.0, section 2.4
PROTOCOL_ERROR = 0x82
NOT_AUTHORISED = 0x87
SESSION_TAKEN_OVER = 0x8E


@dataclass(frozen=True, slots=True)
class _Reason:
    what: str
    remedy: str = ""
    permanent: bool = False


def connect_failure(error: OSError, settings: BrokerSettings) -> TransportError:
    """Return what kept us from opening a connection."""
    endpoint = settings.endpoint
    reason = _connect_reason(error, settings)
    return TransportError(
        f"cannot connect to {endpoint}: {reason.what}",
        remedy=reason.remedy,
        permanent=reason.permanent,
    )


def _connect_reason(error: OSError, settings: BrokerSettings) -> _Reason:
    endpoint = settings.endpoint
    match error:
        case ssl.SSLCertVerificationError():
            return _untrusted(error, settings)
        case ssl.SSLError():
            return _tls_reason(error, settings)
        case TimeoutError():
            return _Reason(
                f"no answer within {settings.connect_timeout_s:g} s",
                "check host and port, and any firewall on the way",
            )
        case socket.gaierror():
            return _Reason(
                f"the name {endpoint.host} cannot be resolved ({error.strerror})",
                "check its spelling and this machine's DNS",
            )
        case ConnectionRefusedError():
            return _refused(endpoint.host, endpoint.port)
        case ConnectionError() if endpoint.tls:
            return _Reason(
                "the connection was closed during the TLS handshake",
                f"is port {endpoint.port} a TLS port? the usual one is 8883",
            )
        case ConnectionError():
            return _Reason("the connection was closed", "try again; then read the broker's log")
        case OSError() if error.errno is None and "Connect call failed" in str(error):
            return _refused(endpoint.host, endpoint.port)  # several addresses, each refused
        case OSError() if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return _Reason(
                f"no way to {endpoint.host}: {error.strerror}", "check this machine's network"
            )
        case _:
            return _Reason(error.strerror or str(error), "check this machine's network")


def _refused(host: str, port: int) -> _Reason:
    return _Reason(
        f"nothing listens at port {port} of {host}", "check the port, and that the broker runs"
    )


def _untrusted(error: ssl.SSLCertVerificationError, settings: BrokerSettings) -> _Reason:
    host = settings.endpoint.host
    authority = settings.ca_file or "this system's authorities"
    match error.verify_code:
        case code if code in _UNKNOWN_AUTHORITIES:
            return _Reason(
                f"the broker's certificate is signed by another authority than {authority}",
                "check ca_file",
                permanent=True,
            )
        case code if code == _SELF_SIGNED:
            return _Reason(
                "the broker's certificate is self-signed",
                "name that very certificate as ca_file, or give the broker one of your authority",
                permanent=True,
            )
        case code if code == _EXPIRED:
            return _Reason(
                "the broker's certificate has expired",
                "renew it on the broker, or correct this machine's clock if that is ahead",
                permanent=True,
            )
        case code if code == _NOT_YET_VALID:
            return _Reason(
                "the broker's certificate is not yet valid",
                "this machine's clock is probably behind: check `date` and the time service",
            )
        case code if code in _NAME_MISMATCHES:
            return _Reason(
                f"the broker's certificate is for another name than {host}",
                "write the name that stands in the certificate, or have one issued for this name",
                permanent=True,
            )
        case _:
            return _Reason(
                f"the broker's certificate is not accepted ({error.verify_message})",
                "check ca_file and the broker's certificate",
                permanent=True,
            )


# The reasons of OpenSSL's errors when the other side sends a TLS alert about our certificate.
_ABOUT_OUR_CERTIFICATE: Mapping[str, _Reason] = {
    "CERTIFICATE_REQUIRED": _Reason(
        "the broker asks for a client certificate", "set cert_file and key_file", permanent=True
    ),
    "ALERT_UNKNOWN_CA": _Reason(
        "the broker does not accept our certificate: it is signed by another authority",
        "check cert_file: it has to come from the authority the broker knows",
        permanent=True,
    ),
    "ALERT_CERTIFICATE_EXPIRED": _Reason(
        "the broker does not accept our certificate: it has expired or is not yet valid",
        "have cert_file renewed, or correct the clock that is wrong",
        permanent=True,
    ),
    "ALERT_CERTIFICATE_REVOKED": _Reason(
        "the broker does not accept our certificate: it is revoked",
        "have a new one issued",
        permanent=True,
    ),
    "ALERT_BAD_CERTIFICATE": _Reason(
        "the broker does not accept our certificate", "check cert_file", permanent=True
    ),
    "ALERT_UNSUPPORTED_CERTIFICATE": _Reason(
        "the broker does not accept our kind of certificate",
        "check that cert_file was issued for clients",
        permanent=True,
    ),
    "ALERT_HANDSHAKE_FAILURE": _Reason(
        "the broker and we have no cipher in common, or it asks for a client certificate",
        "set cert_file and key_file, or read the broker's log",
        permanent=True,
    ),
}


def _tls_reason(error: ssl.SSLError, settings: BrokerSettings) -> _Reason:
    code = error.reason or ""
    for suffix, reason in _ABOUT_OUR_CERTIFICATE.items():
        if code.endswith(suffix):
            return reason
    if "PROTOCOL_VERSION" in code or "UNSUPPORTED_PROTOCOL" in code:
        return _Reason(
            "the broker speaks no TLS 1.2 or newer",
            "set tls_version tlsv1.2 or newer on the broker",
            permanent=True,
        )
    if code in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return _Reason(
            f"port {settings.endpoint.port} answers, but not with TLS",
            "the usual TLS port is 8883",
            permanent=True,
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _Reason(
            "the connection was closed during the TLS handshake",
            f"is port {settings.endpoint.port} a TLS port? the usual one is 8883",
        )
    return _Reason(f"TLS failed ({code or error})", "read the broker's log")


def unusable_file(name: str, path: str, error: OSError | ValueError) -> TransportError:
    """Return why one of our own files cannot be used: a certificate, a key, a password."""
    match error:
        case ssl.SSLError() if error.reason == "KEY_VALUES_MISMATCH":
            what, remedy = "the key is not this certificate's", "check cert_file and key_file"
        case ssl.SSLError():
            what = "it holds no usable PEM block, or is locked with a passphrase"
            remedy = "write it in PEM, without a passphrase, readable by this user only"
        case FileNotFoundError():
            what, remedy = "there is no such file", f"check {name}"
        case PermissionError():
            what, remedy = "this user may not read it", "check its owner and mode"
        case OSError():
            what, remedy = error.strerror or str(error), f"check {name}"
        case _:
            what, remedy = str(error), f"check {name}"
    return TransportError(f"{name} {path}: {what}", remedy=remedy, permanent=True)


_ASKED_FOR_311 = 'set protocol to "3.1.1" (--mqtt-version 3.1.1)'

_REFUSED_CONNECTS: Mapping[int, _Reason] = {
    0x81: _Reason("the broker found our CONNECT malformed", _ASKED_FOR_311, permanent=True),
    0x82: _Reason("the broker found a protocol error in our CONNECT", _ASKED_FOR_311, True),
    0x84: _Reason("the broker does not speak this version of MQTT", _ASKED_FOR_311, permanent=True),
    0x85: _Reason("the broker refuses this client id", "set another client_id", permanent=True),
    0x86: _Reason(
        "the broker refuses user name or password",
        "check username and the content of password_file",
        permanent=True,
    ),
    NOT_AUTHORISED: _Reason(
        "the broker does not let us in",
        "set username and password_file, or cert_file and key_file; then check the broker's ACL",
        permanent=True,
    ),
    0x88: _Reason("the broker is not available now"),
    0x89: _Reason("the broker is busy"),
    0x8A: _Reason("the broker has banned this client", "ask the broker's operator", permanent=True),
    0x8C: _Reason("the broker asks for another way to log in", "read its log", permanent=True),
    0x97: _Reason("the broker's quota for us is used up", "ask the broker's operator"),
    0x9C: _Reason("the broker sends us to another server", "change the url", permanent=True),
    0x9D: _Reason("the broker has moved", "change the url", permanent=True),
    0x9F: _Reason("the broker takes no more connections at this rate"),
}


def refused_connect(code: int, name: str, settings: BrokerSettings) -> TransportError:
    """Return what the reason code of a CONNACK says."""
    reason = _REFUSED_CONNECTS.get(code, _Reason(f"the broker refuses the connection ({name})"))
    return TransportError(
        f"{settings.endpoint}: {reason.what}", remedy=reason.remedy, permanent=reason.permanent
    )


def no_connack(settings: BrokerSettings) -> TransportError:
    """Return what it means that the broker closed the connection instead of answering."""
    remedies = []
    if settings.endpoint.tls:
        remedies.append("check cert_file and key_file if it asks for client certificates")
    else:
        remedies.append("write mqtts:// if this is its TLS port")
    if settings.protocol == "5":
        remedies.append('set protocol to "3.1.1" if it speaks no MQTT 5')
    remedies.append("read the broker's log")
    return TransportError(
        f"{settings.endpoint} closed the connection instead of answering",
        remedy="; ".join(remedies),
    )


_DISCONNECTS: Mapping[int, _Reason] = {
    0x81: _Reason("it found a packet of ours malformed", "please report this as a fault"),
    0x82: _Reason("it found a protocol error of ours", "please report this as a fault"),
    NOT_AUTHORISED: _Reason("it does not allow what we did", "check the broker's ACL", True),
    0x89: _Reason("it is busy"),
    0x8B: _Reason("it is shutting down"),
    0x8D: _Reason("it has not heard from us in time", "check the link; raise keepalive_s"),
    0x93: _Reason("we sent more at once than it takes", "please report this as a fault"),
    0x95: _Reason(
        "a message of ours is larger than it takes",
        "raise the broker's max_packet_size above 66000 bytes",
        permanent=True,
    ),
    0x97: _Reason("our quota is used up", "ask the broker's operator"),
    0x98: _Reason("its operator has thrown us out", "ask the broker's operator"),
    0x9A: _Reason("it refuses retained messages", "please report this as a fault"),
    0x9D: _Reason("it has moved", "change the url", permanent=True),
}


def disconnected(code: int, name: str, settings: BrokerSettings) -> TransportError:
    """Return what the reason code of the broker's DISCONNECT says (MQTT 5)."""
    if code == SESSION_TAKEN_OVER:
        return TransportError(
            f"another client took over our session at {settings.endpoint}: it has the same client "
            f"id {settings.client_id!r}",
            remedy="give each program its own client_id; if nobody else should have it, find the "
            "copy of this configuration or certificate",
        )
    reason = _DISCONNECTS.get(code, _Reason(f"its reason: {name}"))
    return TransportError(
        f"{settings.endpoint} ended the connection: {reason.what}",
        remedy=reason.remedy,
        permanent=reason.permanent,
    )


def lost(error: Exception | None, settings: BrokerSettings) -> TransportError:
    """Return what it means that an open connection is gone without a word."""
    if isinstance(error, ssl.SSLError):
        reason = _tls_reason(error, settings)
        return TransportError(
            f"{settings.endpoint}: {reason.what}",
            remedy=reason.remedy,
            permanent=reason.permanent,
        )
    detail = "" if error is None else f" ({error.__class__.__name__})"
    return TransportError(
        f"the connection to {settings.endpoint} was lost{detail}",
        remedy=f"wait; if it happens again and again, another client may use client id "
        f"{settings.client_id!r} too, or the link is bad",
    )


def not_mqtt(settings: BrokerSettings) -> TransportError:
    """Return what it means that bytes came which are no packet we can read."""
    return TransportError(
        f"{settings.endpoint} sent what is not MQTT {settings.protocol}",
        remedy="check that the port is a broker's, and the protocol version it speaks",
    )


def oversize(nbytes: int, most: int, settings: BrokerSettings) -> TransportError:
    """Return what it means that a packet comes which is larger than we told the broker to send."""
    return TransportError(
        f"{settings.endpoint} sends a packet of {nbytes} bytes, and was told to send {most} at most",
        remedy="let the broker refuse what is larger (mosquitto: max_packet_size)",
    )


def silent(silent_s: float, settings: BrokerSettings) -> TransportError:
    """Return what it means that a ping was not answered."""
    return TransportError(
        f"{settings.endpoint} has been silent for {silent_s:.0f} s, though asked",
        remedy="check the link and the broker",
    )


def unanswered(waited_s: float, about: str) -> TransportError:
    """Return what it means that PUBACK or SUBACK did not come."""
    return TransportError(
        f"the broker has not answered within {waited_s:g} s ({about[:200]})",
        remedy="connect anew; if it repeats, read the broker's log",
    )


def refused_subscription(name: str, filters: str) -> TransportError:
    """Return what a refusing reason code of a SUBACK says."""
    return TransportError(
        f"the broker refuses the subscription to {filters}: {name}",
        remedy="check the broker's ACL",
        permanent=True,
    )


_REFUSED_PUBLISHES: Mapping[int, _Reason] = {
    0x83: _Reason("the broker has its own reason", "read the broker's log"),
    NOT_AUTHORISED: _Reason(
        "the broker does not allow us this topic",
        "check the broker's ACL: a gateway may write below its own feeder and gateway id",
        permanent=True,
    ),
    0x90: _Reason("the broker refuses this topic", "check feeder and gateway id", permanent=True),
    0x95: _Reason(
        "the message is larger than the broker takes",
        "raise the broker's message_size_limit to 65536",
        permanent=True,
    ),
    0x97: _Reason("the broker's quota for us is used up", "ask the broker's operator"),
    0x99: _Reason("the broker refuses the content", "read the broker's log", permanent=True),
}


def refused_publish(code: int, name: str, topic: str) -> PublishRefused:
    """Return what the reason code of a PUBACK says (MQTT 5)."""
    reason = _REFUSED_PUBLISHES.get(code, _Reason(f"the broker refuses it ({name})"))
    return PublishRefused(
        f"publishing on {topic}: {reason.what}", remedy=reason.remedy, permanent=reason.permanent
    )
