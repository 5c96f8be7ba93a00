"""An authority that issues certificates to devices, for tests."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtensionOID, NameOID

DAY = dt.timedelta(days=1)


def name(common_name: str, organization: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


class Authority:
    """Holds a key that signs certificates."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name("authority of tests")
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = (
            self._builder(self._name, self._key)
            .add_extension(basic, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issued(
        self,
        common_name: str,
        organization: str | None = None,
        *,
        dns: tuple[str, ...] = (),
        encoded_names: bytes | None = None,
        days: tuple[int, int] = (-1, 1),
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Returns a certificate that is valid between two days from today, and its key.
        `encoded_names` is the DER of its alternative names, as it is."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name(common_name, organization), key, days)
        if dns:
            names = x509.SubjectAlternativeName([x509.DNSName(each) for each in dns])
            builder = builder.add_extension(names, critical=False)
        if encoded_names is not None:
            oid = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
            builder = builder.add_extension(
                x509.UnrecognizedExtension(oid, encoded_names), critical=False
            )
        return builder.sign(self._key, hashes.SHA256()), key

    def file(self, folder: Path) -> Path:
        """Writes the authority's own certificate."""
        path = folder / "authority.pem"
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return path

    def files(self, folder: Path, *args: str, **options: tuple[str, ...]) -> tuple[Path, Path]:
        """Writes a new certificate and its key."""
        certificate, key = self.issued(*args, **options)  # type: ignore[arg-type] # dns alone
        crt, pem = folder / f"{args[0]}.crt", folder / f"{args[0]}.key"
        crt.write_bytes(certificate.public_bytes(Encoding.PEM))
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return crt, pem

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        days: tuple[int, int] = (-1, 1),
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
        )
