"""Reads the client certificate of a request: that of its connection, or, from a trusted proxy, the
one in the header that the operator names.

Both are verified before: by TLS against the authorities of --tls-client-ca, or by the proxy. Only
the time of validity is checked with each request, because a connection may outlive it. A
certificate that can't be read is none. The certificate of a proxy's own connection never stands for
its clients.
"""

import time
from base64 import b64decode
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from firmtrail.http.clients import Clients
from firmtrail.rules.certificate import CertificateName

_SUBJECT = {
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.SERIAL_NUMBER: "serialNumber",
}


_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""The library's errors for certificates that it can't read; not all of them are ValueErrors."""


class ReadCertificate(NamedTuple):
    """Holds what of a certificate decides whose it is, and when it is valid."""

    names: frozenset[CertificateName]
    from_s: float
    until_s: float


class ClientCertificates:
    """Finds the certificates of requests. `header` is the one that proxies pass them on in."""

    def __init__(self, clients: Clients, header: str | None = None) -> None:
        self._clients = clients
        self._header = header

    def names(self, request: web.Request) -> frozenset[CertificateName] | None:
        """Returns the names in the request's certificate; None: it has no valid one."""
        der = self._presented(request)
        found = _read(der) if der else None
        is_valid = found is not None and found.from_s <= time.time() <= found.until_s
        return found.names if found and is_valid else None

    def _presented(self, request: web.Request) -> bytes | None:
        if self._clients.is_from_proxy(request):
            values = request.headers.getall(self._header, ()) if self._header else ()
            return _der_of(values[0]) if len(values) == 1 else None
        transport = request.transport
        secured = transport.get_extra_info("ssl_object") if transport else None
        return secured.getpeercert(binary_form=True) if secured else None


@lru_cache(maxsize=1024)
def _der_of(text: str) -> bytes | None:
    """Reads a header: base64 between colons (RFC 9440), or a PEM file percent-encoded (nginx), or
    base64 alone (HAProxy)."""
    text = text.strip()
    try:
        if text.startswith("-----BEGIN"):
            certificate = x509.load_pem_x509_certificate(unquote(text).encode())
            return certificate.public_bytes(Encoding.DER)
        return b64decode(text.removeprefix(":").removesuffix(":"), validate=True) or None
    except _UNREADABLE:
        return None


@lru_cache(maxsize=1024)
def _read(der: bytes) -> ReadCertificate | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = {*_of_subject(certificate), *_alternatives(certificate)}
        return ReadCertificate(
            frozenset(names),
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )
    except _UNREADABLE:
        return None


def _of_subject(certificate: x509.Certificate) -> list[CertificateName]:
    return [
        CertificateName(_SUBJECT[each.oid], str(each.value))
        for each in certificate.subject
        if each.oid in _SUBJECT
    ]


def _alternatives(certificate: x509.Certificate) -> list[CertificateName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    kinds: tuple[tuple[type[x509.DNSName | x509.UniformResourceIdentifier], str], ...] = (
        (x509.DNSName, "DNS"),
        (x509.UniformResourceIdentifier, "URI"),
    )
    return [
        CertificateName(name, value)
        for kind, name in kinds
        for value in found.get_values_for_type(kind)
    ]
