"""Make the certificates of `serve --tls`: an authority of this machine's own, and a server certificate signed by it.

The authority is made once and kept, so that who trusts it goes on doing so; the server's certificate is made at every
start. Needs the extra `tls`.
"""

import datetime
import ipaddress
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import InvalidInput
from ..fal.api import HOSTS

_LOCAL = ("127.0.0.1", "localhost", "::1")
_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 397  # what Apple's clients accept at most is 398
_NOT_SIGNING = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "encipher_only": False,
    "decipher_only": False,
}


@dataclass(frozen=True, slots=True)
class Certificates:
    """Name the files: all PEM.

    Attributes:
        server: the server's key and certificate, for nobody else to read.
        authority: the certificate that clients have to trust.
        bundle: it and the public authorities, for clients that take one file in place of all they trusted before.
    """

    server: Path
    authority: Path
    bundle: Path


def issue(folder: Path, host: str) -> Certificates:
    """Write a server certificate into `folder`, and an authority if there is none.

    It is for `host`, the local names, and fal's: a proxy may lead the clients of these here.

    Raises:
        OSError: the folder or a file may not be written.
        InvalidInput: the authority there is broken.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(folder / "server.pem", folder / "ca.pem", folder / "bundle.pem")
    key, authority = _authority(folder / "ca-key.pem", files.authority)
    own_key = ec.generate_private_key(ec.SECP256R1())
    certificate = _server_certificate(own_key, key, authority, dict.fromkeys([*_LOCAL, *HOSTS, host]))
    _write_secret(files.server, _pem(own_key) + certificate.public_bytes(Encoding.PEM))
    files.bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.public_bytes(Encoding.PEM))
    return files


def _authority(key_file: Path, file: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return the authority that is there, or a new one where there is none or it has not long to live."""
    if key_file.exists() and file.exists():
        key, certificate = _read_authority(key_file, file)
        if certificate.not_valid_after_utc > _in_days(_SERVER_DAYS):
            return key, certificate
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _authority_certificate(key)
    _write_secret(key_file, _pem(key))
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return key, certificate


def _read_authority(key_file: Path, file: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return the authority that is there; not replaced unasked, as who trusts it would no longer trust the server."""
    with suppress(ValueError):
        key = load_pem_private_key(key_file.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        if isinstance(key, ec.EllipticCurvePrivateKey) and certificate.public_key() == key.public_key():
            return key, certificate
    raise InvalidInput(f"{file} and {key_file.name} are no authority; delete both, then a new one is made")


def _authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("streamapp local authority")
    return (
        _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **_NOT_SIGNING), critical=True
        )
        .sign(key, hashes.SHA256())
    )


def _server_certificate(
    own_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    hosts: Iterable[str],
) -> x509.Certificate:
    # Python 3.13 accepts no certificate without the identifier of the key that signed it.
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return (
        _builder(_name("streamapp"), authority.subject, own_key.public_key(), _SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **_NOT_SIGNING), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(signed_by, critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_in_days(-1))  # clocks differ
        .not_valid_after(_in_days(days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _in_days(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_secret(path: Path, content: bytes) -> None:
    """Write a file that nobody else has been able to read at any moment."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
