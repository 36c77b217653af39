"""What a certificate says of itself: how long it is valid, for which names, and whether its chain holds together."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def chain_of(pem: bytes) -> list[Certificate]:
    """Return the certificates of a PEM text in their order, the server's own first.

    Raises:
        ValueError: there is none, or one of them cannot be read.
    """
    from cryptography import x509

    return list(x509.load_pem_x509_certificates(pem))


def days_left(certificate: Certificate) -> int:
    """Return for how many whole days a certificate is still valid; negative when it has expired."""
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days


def told_days(left: int) -> str:
    """Return the days that are left as a sentence."""
    if left < 0:
        return f"it expired {-left} day{'s' if left != -1 else ''} ago"
    return f"it is valid for {left} more day{'s' if left != 1 else ''}"


def fault_of_chain(chain: list[Certificate]) -> str:
    """Return why a server's chain would not be taken, or "".

    Each certificate must be signed by the next. Whether clients trust the last one is theirs to say.
    """
    from cryptography.exceptions import InvalidSignature

    if chain[0].not_valid_before_utc > datetime.now(UTC):
        return f"it is not valid before {chain[0].not_valid_before_utc:%Y-%m-%d}"
    for certificate, issuer in pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            subject, next_one = certificate.subject.rfc4514_string(), issuer.subject.rfc4514_string()
            return f"its chain is broken: {subject!r} was not issued by the next, {next_one!r}"
    return ""


def names_of(certificate: Certificate) -> list[str]:
    """Return the DNS names and addresses that a certificate is for."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def covers(names: list[str], host: str) -> bool:
    """Return whether one of a certificate's names is for a host; ``*`` stands for exactly one label (RFC 6125)."""
    wanted = host.lower()
    parent = wanted.partition(".")[2]
    return any(
        name.lower() == wanted or (name.startswith("*.") and bool(parent) and name[2:].lower() == parent)
        for name in names
    )
