"""The development root and the certificates it issues: the shape of Intel's, the worth of a test."""

import datetime as dt
from collections.abc import Sequence

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from compute_bridge.model.checks import label, octets, whole
from compute_bridge.model.quote import TrustAnchor

SGX_EXTENSION = "1.2.840.113741.1.13.1"
DAY_S = 24 * 3600
ROOT_LIFE_S = 20 * 365 * DAY_S

_OCTET_STRING, _INTEGER, _ENUMERATED, _BOOLEAN, _OID, _SEQUENCE = 0x04, 0x02, 0x0A, 0x01, 0x06, 0x30


@frozen
class Window:
    """From when to when something is valid, in Unix seconds."""

    start_s: int = field(validator=whole())
    end_s: int = field(validator=whole())

    @property
    def start(self) -> dt.datetime:
        """The first second, in UTC."""
        return dt.datetime.fromtimestamp(self.start_s, dt.UTC)

    @property
    def end(self) -> dt.datetime:
        """The last second, in UTC."""
        return dt.datetime.fromtimestamp(self.end_s, dt.UTC)


@frozen
class DevelopmentRoot:
    """A root of trust that proves nothing about hardware, under a name of its own."""

    name: str = field(validator=label)
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate = field(repr=False)

    @classmethod
    def generate(cls, name: str, *, now_s: int) -> "DevelopmentRoot":
        """Return a new root, valid from a day before ``now_s`` for twenty years."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = _Issuer(_name(f"compute-bridge development root {name}"[:64]), key)
        window = Window(max(0, now_s - DAY_S), now_s + ROOT_LIFE_S)
        return cls(name, key, _issue(issuer, issuer.name, key, window, is_authority=True))

    @property
    def anchor(self) -> TrustAnchor:
        """What a verifier needs to recognise this root, marked as development."""
        der = self.certificate.public_bytes(Encoding.DER)
        return TrustAnchor(self.name, der, development=True)


@frozen(kw_only=True)
class PlatformCertificates:
    """All that stands between a development root and one imitated platform."""

    pck_key: ec.EllipticCurvePrivateKey = field(repr=False)
    pck_chain: str = field(repr=False)
    ca_chain: str = field(repr=False)
    tcb_key: ec.EllipticCurvePrivateKey = field(repr=False)
    tcb_chain: str = field(repr=False)
    root_crl: bytes = field(repr=False)
    pck_crl: bytes = field(repr=False)


def issue_platform(
    root: DevelopmentRoot, *, extension: bytes, window: Window, is_revoked: bool = False
) -> PlatformCertificates:
    """Return fresh certificates under ``root``; the PCK leaf carries ``extension``.

    ``is_revoked`` lists the leaf in the PCK revocation list.
    """
    ca_key, pck_key, tcb_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    top = _Issuer(root.certificate.subject, root.key)
    # "Platform" is what verifiers tell the platform CA from the processor CA by.
    middle = _Issuer(_name("compute-bridge development PCK Platform CA"), ca_key)
    ca = _issue(top, middle.name, ca_key, window, is_authority=True)
    pck_name, tcb_name = _name("compute-bridge development PCK"), _name("development TCB signing")
    pck = _issue(middle, pck_name, pck_key, window, extension=extension)
    tcb = _issue(top, tcb_name, tcb_key, window)
    return PlatformCertificates(
        pck_key=pck_key,
        pck_chain=_pem(pck, ca, root.certificate),
        ca_chain=_pem(ca, root.certificate),
        tcb_key=tcb_key,
        tcb_chain=_pem(tcb, root.certificate),
        root_crl=_crl(top, window),
        pck_crl=_crl(middle, window, [pck.serial_number] if is_revoked else []),
    )


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return an ECDSA P-256 SHA-256 signature as r then s, 32 bytes big-endian each."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_public(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public point as x then y, 32 bytes big-endian each."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


@frozen(kw_only=True)
class PckFacts:
    """What a PCK certificate says of its platform."""

    fmspc: bytes = field(validator=octets(6))
    ppid: bytes = field(validator=octets(16))
    platform_instance: bytes = field(validator=octets(16))
    cpu_svn: bytes = field(validator=octets(16))
    pce_svn: int = field(validator=whole(0, 0xFFFF))


def sgx_extension(facts: PckFacts) -> bytes:
    """Return the DER of the extension that a PCK certificate carries.

    Source: Intel SGX PCK Certificate and CRL Profile Specification, 1.3.5.
    """
    svns = [*(bytes([svn]) for svn in facts.cpu_svn), facts.pce_svn.to_bytes(2, "big")]
    tcb = [_entry(f"2.{index}", _INTEGER, _unsigned(svn)) for index, svn in enumerate(svns, 1)]
    tcb.append(_entry("2.18", _OCTET_STRING, facts.cpu_svn))
    flags = [_entry(f"7.{index}", _BOOLEAN, b"\0") for index in (1, 2, 3)]
    items = (
        _entry("1", _OCTET_STRING, facts.ppid),
        _entry("2", _SEQUENCE, b"".join(tcb)),
        _entry("3", _OCTET_STRING, bytes(2)),
        _entry("4", _OCTET_STRING, facts.fmspc),
        _entry("5", _ENUMERATED, b"\0"),
        _entry("6", _OCTET_STRING, facts.platform_instance),
        _entry("7", _SEQUENCE, b"".join(flags)),
    )
    return _tlv(_SEQUENCE, b"".join(items))


def _entry(suffix: str, tag: int, content: bytes) -> bytes:
    """Return SEQUENCE { OID, value } for one member of the SGX extension."""
    return _tlv(_SEQUENCE, _oid(f"{SGX_EXTENSION}.{suffix}") + _tlv(tag, content))


def _unsigned(value: bytes) -> bytes:
    """Return the shortest DER content of an INTEGER that is not negative."""
    short = value.lstrip(b"\0") or b"\0"
    return b"\0" + short if short[0] & 0x80 else short


def _oid(dotted: str) -> bytes:
    first, second, *arcs = (int(arc) for arc in dotted.split("."))
    content = bytes([first * 40 + second])
    for arc in arcs:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return _tlv(_OID, content)


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octet_count = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | octet_count]) + size.to_bytes(octet_count, "big") + content


@frozen
class _Issuer:
    name: x509.Name
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _issue(
    issuer: _Issuer,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    window: Window,
    *,
    is_authority: bool = False,
    extension: bytes | None = None,
) -> x509.Certificate:
    """Return the certificate of ``key`` under ``issuer``; ``extension`` is the SGX one."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(window.start)
        .not_valid_after(window.end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_usage(signs_data=not is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer.identifier, critical=False)
    )
    if extension is not None:
        oid = x509.ObjectIdentifier(SGX_EXTENSION)
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, extension), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _usage(*, signs_data: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs_data,
        content_commitment=signs_data,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs_data,
        crl_sign=not signs_data,
        encipher_only=False,
        decipher_only=False,
    )


def _crl(issuer: _Issuer, window: Window, revoked: Sequence[int] = ()) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(window.start)
        .next_update(window.end)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(issuer.identifier, critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(window.start)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _pem(*certificates: x509.Certificate) -> str:
    return "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates)
