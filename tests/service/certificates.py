"""Writes client certificates as proxies pass them on."""

from base64 import b64encode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def rfc_9440(certificate: x509.Certificate) -> str:
    return f":{b64encode(certificate.public_bytes(Encoding.DER)).decode()}:"
