"""TDX quotes, what a verifier demands of them, and what it found."""

from enum import StrEnum

from attrs import Attribute, field, frozen
from attrs.validators import instance_of

from compute_bridge.model.checks import each, few, label, octets, text, whole

MEASUREMENT_BYTES = 48
REPORT_DATA_BYTES = 64
RTMR_COUNT = 4
MAX_QUOTE_BYTES = 16 * 1024
MAX_COLLATERAL_BYTES = 64 * 1024
TDX_TEE_TYPE = 0x81
INTEL_ROOT = "intel-sgx-root"
# No Intel part has this family-model-stepping code; a quote that carries it is a development quote,
# whatever its anchor is called.
DEVELOPMENT_FMSPC = bytes.fromhex("DE0000000001")

TCB_STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)
"""What a policy may allow. ``Revoked`` is missing on purpose: no policy can allow it."""


class AttestationReason(StrEnum):
    """Why a quote does not prove what it must; a stable code."""

    MALFORMED = "quote-malformed"
    REPORT_DATA = "quote-report-data"
    DEBUG = "quote-debug"
    ATTRIBUTES = "quote-attributes"
    ANCHOR = "quote-anchor"
    CERTIFICATE = "quote-certificate"
    SIGNATURE = "quote-signature"
    REVOKED = "quote-revoked"
    QE_IDENTITY = "quote-qe-identity"
    TDX_MODULE = "quote-tdx-module"
    TCB_STATUS = "quote-tcb-status"
    ADVISORY = "quote-advisory"
    MEASUREMENTS = "quote-measurements"
    COLLATERAL_MISSING = "quote-collateral-missing"
    COLLATERAL_MALFORMED = "quote-collateral-malformed"
    COLLATERAL_MISMATCH = "quote-collateral-mismatch"
    COLLATERAL_EXPIRED = "quote-collateral-expired"
    COLLATERAL_FUTURE = "quote-collateral-future"
    DEVELOPMENT = "development-attester"
    REJECTED = "quote-rejected"


@frozen
class Measurements:
    """MRTD and RTMR0 to RTMR3, SHA-384 each."""

    mr_td: bytes = field(validator=octets(MEASUREMENT_BYTES))
    rtmrs: tuple[bytes, ...] = field(validator=each(octets(MEASUREMENT_BYTES), RTMR_COUNT, RTMR_COUNT))


@frozen(kw_only=True)
class TdxQuote:
    """Header and body of a TDX quote: all that its attestation key signs, and nothing malleable.

    ``tee_tcb_svn2`` and ``mr_service_td`` stand only in a TD 1.5 body, both or neither.

    Source: Intel TDX DCAP Quoting Library API, appendix 3.
    """

    version: int = field(validator=whole(4, 5))
    att_key_type: int = field(default=2, validator=whole(0, 0xFFFF))
    tee_type: int = field(default=TDX_TEE_TYPE, validator=whole(0, 0xFFFF_FFFF))
    qe_svn: int = field(default=0, validator=whole(0, 0xFFFF))
    pce_svn: int = field(default=0, validator=whole(0, 0xFFFF))
    qe_vendor_id: bytes = field(validator=octets(16))
    user_data: bytes = field(default=bytes(20), validator=octets(20))
    tee_tcb_svn: bytes = field(validator=octets(16))
    mr_seam: bytes = field(validator=octets(MEASUREMENT_BYTES))
    mr_signer_seam: bytes = field(validator=octets(MEASUREMENT_BYTES))
    seam_attributes: bytes = field(validator=octets(8))
    td_attributes: bytes = field(validator=octets(8))
    xfam: bytes = field(validator=octets(8))
    mr_td: bytes = field(validator=octets(MEASUREMENT_BYTES))
    mr_config_id: bytes = field(validator=octets(MEASUREMENT_BYTES))
    mr_owner: bytes = field(validator=octets(MEASUREMENT_BYTES))
    mr_owner_config: bytes = field(validator=octets(MEASUREMENT_BYTES))
    rtmrs: tuple[bytes, ...] = field(validator=each(octets(MEASUREMENT_BYTES), RTMR_COUNT, RTMR_COUNT))
    report_data: bytes = field(validator=octets(REPORT_DATA_BYTES))
    tee_tcb_svn2: bytes | None = None
    mr_service_td: bytes | None = field(default=None)

    @mr_service_td.validator
    def _both_or_neither(self, _attribute: object, value: bytes | None) -> None:
        if (value is None) != (self.tee_tcb_svn2 is None):
            raise ValueError("tee_tcb_svn2 and mr_service_td stand together or not at all")
        if value is None or self.tee_tcb_svn2 is None:
            return
        if self.version == 4:
            raise ValueError("a version 4 quote has no TD 1.5 body; use version 5")
        if len(self.tee_tcb_svn2) != 16 or len(value) != MEASUREMENT_BYTES:
            raise ValueError("tee_tcb_svn2 must be 16 bytes and mr_service_td 48")

    @property
    def is_debug(self) -> bool:
        """Whether the untrusted-debug byte of the TD attributes has any bit set."""
        return self.td_attributes[0] != 0

    @property
    def measurements(self) -> Measurements:
        """MRTD and the RTMRs of this quote."""
        return Measurements(self.mr_td, self.rtmrs)


@frozen(kw_only=True)
class QuoteAuth:
    """What vouches for a quote's header and body; malleable, so never a part of any identity.

    ``signature`` and ``qe_report_signature`` are raw r then s, ``attestation_key`` is x then y, all
    P-256; ``pck_chain`` is PEM: leaf, intermediate, root.
    """

    signature: bytes = field(validator=octets(64))
    attestation_key: bytes = field(validator=octets(64))
    qe_report: bytes = field(validator=octets(384))
    qe_report_signature: bytes = field(validator=octets(64))
    qe_auth_data: bytes = field(validator=octets(0, 1024))
    pck_chain: bytes = field(validator=octets(1, MAX_QUOTE_BYTES))


@frozen
class Evidence:
    """A raw quote as it travels in a card, with the collateral that a verifier needs for it.

    ``collateral`` is the JSON text of a DCAP ``QuoteCollateralV3``; None where the verifier has its own.
    """

    quote: bytes = field(validator=octets(1, MAX_QUOTE_BYTES), repr=False)
    collateral: str | None = field(default=None, repr=False)

    @collateral.validator
    def _bounded(self, _attribute: object, value: str | None) -> None:
        if value is None:
            return
        if type(value) is not str or not value:
            raise ValueError("collateral must be JSON text or absent")
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise ValueError("collateral is not Unicode text") from error
        if size > MAX_COLLATERAL_BYTES:
            raise ValueError(f"collateral is {size} bytes, more than {MAX_COLLATERAL_BYTES}")


@frozen
class TrustAnchor:
    """A named root that a quote's certificates may end at.

    ``root_ca_der`` is None for Intel's own root, which comes with the verifier. ``development`` follows
    every quote verified under this anchor into results, cards and logs.
    """

    name: str = field(validator=label)
    root_ca_der: bytes | None = field(repr=False)
    development: bool = field(validator=instance_of(bool))

    @root_ca_der.validator
    def _named_root(self, _attribute: object, value: bytes | None) -> None:
        if (self.name == INTEL_ROOT) != (value is None):
            raise ValueError(
                f"anchor {self.name!r}: only {INTEL_ROOT!r} has no root_ca_der, and no other may take its name"
            )
        if value is not None and (type(value) is not bytes or not 0 < len(value) <= 8192):
            raise ValueError(f"anchor {self.name!r}: root_ca_der must be 1 to 8192 bytes of DER")

    @development.validator
    def _intel_is_real(self, _attribute: object, value: bool) -> None:
        if value and self.name == INTEL_ROOT:
            raise ValueError(f"anchor {INTEL_ROOT!r} is not a development anchor")


INTEL_ANCHOR = TrustAnchor(INTEL_ROOT, None, development=False)


def _status(_owner: object, attribute: "Attribute[str]", value: str) -> None:
    if value not in TCB_STATUSES:
        raise ValueError(f"{attribute.name}: {value!r} cannot be allowed; use some of {', '.join(TCB_STATUSES)}")


@frozen(kw_only=True)
class QuotePolicy:
    """What a verifier demands. ``allowed_measurements`` None means that any measurements will do."""

    anchors: tuple[TrustAnchor, ...] = field(validator=few(1, 16))
    allow_development: bool = field(default=False, validator=instance_of(bool))
    allowed_tcb_statuses: tuple[str, ...] = field(default=("UpToDate",), validator=each(_status, 1, len(TCB_STATUSES)))
    rejected_advisories: tuple[str, ...] = field(default=(), validator=each(text(1, 64)))
    allowed_measurements: tuple[Measurements, ...] | None = None

    @anchors.validator
    def _distinct(self, _attribute: object, value: tuple[TrustAnchor, ...]) -> None:
        names = [anchor.name for anchor in value]
        if len(set(names)) != len(names):
            raise ValueError(f"anchors must have distinct names, got {', '.join(names)}")


@frozen(kw_only=True)
class VerifiedQuote:
    """What a verified quote proves. ``quote_hash`` covers header and body, and so is not malleable.

    ``expires_at_s`` is the Unix second from which the first part of its collateral no longer holds.
    """

    anchor: str
    development: bool
    tcb_status: str
    advisories: tuple[str, ...]
    measurements: Measurements
    report_data: bytes = field(validator=octets(REPORT_DATA_BYTES))
    quote_hash: bytes = field(validator=octets(32))
    expires_at_s: int | None
