"""TDX quote bytes to :class:`~compute_bridge.model.quote.TdxQuote` and back.

Parsing proves nothing: whether a quote is true is for a verifier to say.

Source: Intel TDX DCAP Quoting Library API, appendix 3; all integers are little-endian.
"""

from struct import Struct

from blake3 import blake3

from compute_bridge.model.errors import RecordError
from compute_bridge.model.quote import MAX_QUOTE_BYTES, TDX_TEE_TYPE, QuoteAuth, TdxQuote

ECDSA_P256 = 2
BODY_TD10 = 2
BODY_TD15 = 3
CERT_QE_REPORT = 6
CERT_PCK_CHAIN = 5

_HEADER = Struct("<HHIHH16s20s")
_HEADER_FIELDS = (
    "version",
    "att_key_type",
    "tee_type",
    "qe_svn",
    "pce_svn",
    "qe_vendor_id",
    "user_data",
)
# body type, body size; version 5 only, and signed
_DESCRIPTOR = Struct("<HI")
# the named fields, RTMR0 to RTMR3, report data
_TD10 = Struct("<16s48s48s8s8s8s48s48s48s48s48s48s48s48s64s")
_TD10_FIELDS = (
    "tee_tcb_svn",
    "mr_seam",
    "mr_signer_seam",
    "seam_attributes",
    "td_attributes",
    "xfam",
    "mr_td",
    "mr_config_id",
    "mr_owner",
    "mr_owner_config",
)
# what a TD 1.5 body adds: TEE TCB SVN 2, MRSERVICETD
_TD15_TAIL = Struct("<16s48s")
_U16 = Struct("<H")
_U32 = Struct("<I")
# certification type, size of what follows
_CERT = Struct("<HI")

HEADER_BYTES = _HEADER.size
TD10_BYTES = _TD10.size
TD15_BYTES = TD10_BYTES + _TD15_TAIL.size
DESCRIPTOR_BYTES = _DESCRIPTOR.size
ECDSA_BYTES = 64
QE_REPORT_BYTES = 384
QE_AUTH_DATA_MAX = 1024


class _Reader:
    """Takes bytes from the front; what is not there is a RecordError naming the part."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, size: int, part: str) -> bytes:
        chunk = self._raw[self._at : self._at + size]
        if len(chunk) != size:
            raise RecordError(f"quote: {part} needs {size} bytes at {self._at}, {len(chunk)} are left; it is truncated")
        self._at += size
        return chunk

    def rest(self) -> bytes:
        return self._raw[self._at :]


def parse_quote(raw: bytes) -> TdxQuote:
    """Return header and body of a version 4 or 5 TDX quote, having checked every length in it.

    :raises RecordError: if ``raw`` is not exactly one such quote, zero padding aside.
    """
    return split_quote(raw)[0]


def split_quote(raw: bytes) -> tuple[TdxQuote, QuoteAuth]:
    """Return the signed part of a quote and what vouches for it.

    Zero bytes may follow, as the kernel's configfs leaves them; anything else may not.

    :raises RecordError: if ``raw`` is not exactly one TDX quote of version 4 or 5.
    """
    if len(raw) > MAX_QUOTE_BYTES:
        raise RecordError(f"quote: {len(raw)} bytes, more than {MAX_QUOTE_BYTES}")
    reader = _Reader(raw)
    quote = _read_signed(reader)
    size = _U32.unpack(reader.take(_U32.size, "size of the signature data"))[0]
    auth = _read_auth(reader.take(size, "signature data"))
    if reader.rest().strip(b"\0"):
        raise RecordError("quote: bytes other than zero padding follow it")
    return quote, auth


def quote_identity(quote: TdxQuote) -> bytes:
    """Return the bytes that the attestation key signs: header, body descriptor in version 5, body.

    Fingerprints, caches and bindings stand on these and never on the raw quote, of which signatures,
    padding and parts of the certificates can be altered without breaking it.
    """
    header = _HEADER.pack(*(getattr(quote, name) for name in _HEADER_FIELDS))
    body = _body_bytes(quote)
    if quote.version == 4:
        return header + body
    body_type = BODY_TD10 if quote.mr_service_td is None else BODY_TD15
    return header + _DESCRIPTOR.pack(body_type, len(body)) + body


def quote_hash(quote: TdxQuote) -> bytes:
    """Return the 32-byte blake3 of :func:`quote_identity`: the same for every form of one quote."""
    return blake3(quote_identity(quote)).digest()


def build_quote(quote: TdxQuote, auth: QuoteAuth) -> bytes:
    """Return the raw quote, without padding; :func:`split_quote` undoes it."""
    chain = _CERT.pack(CERT_PCK_CHAIN, len(auth.pck_chain)) + auth.pck_chain
    certification = b"".join(
        (
            auth.qe_report,
            auth.qe_report_signature,
            _U16.pack(len(auth.qe_auth_data)),
            auth.qe_auth_data,
            chain,
        )
    )
    data = b"".join(
        (
            auth.signature,
            auth.attestation_key,
            _CERT.pack(CERT_QE_REPORT, len(certification)),
            certification,
        )
    )
    return quote_identity(quote) + _U32.pack(len(data)) + data


def _body_bytes(quote: TdxQuote) -> bytes:
    fields = (getattr(quote, name) for name in _TD10_FIELDS)
    body = _TD10.pack(*fields, *quote.rtmrs, quote.report_data)
    if quote.tee_tcb_svn2 is None or quote.mr_service_td is None:
        return body
    return body + _TD15_TAIL.pack(quote.tee_tcb_svn2, quote.mr_service_td)


def _read_signed(reader: _Reader) -> TdxQuote:
    header = dict(zip(_HEADER_FIELDS, _HEADER.unpack(reader.take(_HEADER.size, "header")), strict=True))
    if header["version"] not in (4, 5):
        raise RecordError(f"quote: version {header['version']} is not a TDX quote of version 4 or 5")
    if header["tee_type"] != TDX_TEE_TYPE:
        raise RecordError(f"quote: TEE type {header['tee_type']:#x} is not TDX ({TDX_TEE_TYPE:#x})")
    if header["att_key_type"] != ECDSA_P256:
        raise RecordError(f"quote: attestation key type {header['att_key_type']} is not ECDSA P-256")
    has_tail = header["version"] == 5 and _read_descriptor(reader) == BODY_TD15
    *named, rtmr0, rtmr1, rtmr2, rtmr3, report_data = _TD10.unpack(reader.take(TD10_BYTES, "TD report"))
    tail = _TD15_TAIL.unpack(reader.take(_TD15_TAIL.size, "TD 1.5 report")) if has_tail else (None, None)
    return TdxQuote(
        **header,
        **dict(zip(_TD10_FIELDS, named, strict=True)),
        rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3),
        report_data=report_data,
        tee_tcb_svn2=tail[0],
        mr_service_td=tail[1],
    )


def _read_descriptor(reader: _Reader) -> int:
    body_type, size = _DESCRIPTOR.unpack(reader.take(_DESCRIPTOR.size, "body descriptor"))
    want = {BODY_TD10: TD10_BYTES, BODY_TD15: TD15_BYTES}.get(body_type)
    if want is None:
        raise RecordError(f"quote: body type {body_type} is not TD 1.0 or TD 1.5")
    if size != want:
        raise RecordError(f"quote: body type {body_type} must have {want} bytes, not {size}")
    return int(body_type)


def _read_auth(data: bytes) -> QuoteAuth:
    reader = _Reader(data)
    signature = reader.take(ECDSA_BYTES, "signature")
    attestation_key = reader.take(ECDSA_BYTES, "attestation key")
    inner = _Reader(_read_certification(reader, CERT_QE_REPORT, "QE report certification"))
    qe_report = inner.take(QE_REPORT_BYTES, "QE report")
    qe_report_signature = inner.take(ECDSA_BYTES, "QE report signature")
    size = _U16.unpack(inner.take(_U16.size, "size of the QE authentication data"))[0]
    if size > QE_AUTH_DATA_MAX:
        raise RecordError(f"quote: QE authentication data of {size} bytes, more than {QE_AUTH_DATA_MAX}")
    qe_auth_data = inner.take(size, "QE authentication data")
    pck_chain = _read_certification(inner, CERT_PCK_CHAIN, "PCK certificate chain")
    return QuoteAuth(
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe_report_signature=qe_report_signature,
        qe_auth_data=qe_auth_data,
        pck_chain=pck_chain,
    )


def _read_certification(reader: _Reader, want: int, part: str) -> bytes:
    """Return what the last part of ``reader`` certifies with; it must be of type ``want`` and end there."""
    cert_type, size = _CERT.unpack(reader.take(_CERT.size, part))
    if cert_type != want:
        raise RecordError(f"quote: {part} is of type {cert_type}, not {want}")
    chunk = reader.take(size, part)
    if not chunk or reader.rest():
        raise RecordError(f"quote: {part} is empty or something follows it")
    return chunk
