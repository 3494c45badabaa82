"""A development attester: real quotes over a made-up machine, under a root of its own.

Its quotes pass the same verifier as Intel's and prove nothing about hardware.
"""

import hashlib
import json
from pathlib import Path
from struct import Struct

import anyio
import anyio.to_thread
from attrs import evolve, field, frozen
from cryptography.hazmat.primitives.asymmetric import ec

from compute_bridge.adapters.software_pki import (
    DAY_S,
    DevelopmentRoot,
    PckFacts,
    PlatformCertificates,
    Window,
    issue_platform,
    raw_public,
    sgx_extension,
    sign_raw,
)
from compute_bridge.adapters.software_root import create_root, load_root
from compute_bridge.model.checks import octets
from compute_bridge.model.quote import (
    DEVELOPMENT_FMSPC,
    MEASUREMENT_BYTES,
    REPORT_DATA_BYTES,
    RTMR_COUNT,
    Evidence,
    Measurements,
    QuoteAuth,
    TdxQuote,
    TrustAnchor,
)
from compute_bridge.ports.attestation import QuoteSource
from compute_bridge.wire.quote import build_quote, quote_identity

COLLATERAL_LIFE_S = 10 * 365 * DAY_S

INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_SIGNER = hashlib.sha256(b"compute-bridge development quoting enclave").digest()
QE_PRODUCT = 2
QE_SVN = 4
QE_ATTRIBUTES = bytes.fromhex("1100000000000000e700000000000000")
QE_AUTH_DATA = bytes(range(32))
CPU_SVN = bytes([2] * 16)
PCE_SVN = 11
# Byte 1 names the TDX module's identity, byte 0 is its SVN.
TEE_TCB_SVN = bytes([4, 3, 2, *([0] * 13)])
# SEPT_VE_DISABLE, without which a host can inject exceptions into the guest.
TD_ATTRIBUTES = bytes([0, 0, 0, 0x10, 0, 0, 0, 0])
XFAM = bytes.fromhex("e702060000000000")
TCB_DATE = "2026-01-01T00:00:00Z"
TCB_EVALUATION = 17
# CPU SVN, misc select, reserved, attributes, MRENCLAVE, reserved, MRSIGNER, reserved, ISV product,
# ISV SVN, reserved, report data
_QE_REPORT = Struct("<16sI28s16s32s32s32s96sHH60s64s")


def label_measurements(label: str) -> Measurements:
    """Return made-up measurements that differ from label to label and never change for one."""
    mr_td, *rtmrs = (
        hashlib.sha384(f"compute-bridge development {register} {label}".encode()).digest()
        for register in ("mrtd", *(f"rtmr{index}" for index in range(RTMR_COUNT)))
    )
    return Measurements(mr_td, tuple(rtmrs))


def software_quote(measurements: Measurements) -> TdxQuote:
    """Return the unsigned version 4 quote of a made-up machine with these measurements."""
    return TdxQuote(
        version=4,
        qe_vendor_id=INTEL_QE_VENDOR,
        tee_tcb_svn=TEE_TCB_SVN,
        mr_seam=bytes(MEASUREMENT_BYTES),
        mr_signer_seam=bytes(MEASUREMENT_BYTES),
        seam_attributes=bytes(8),
        td_attributes=TD_ATTRIBUTES,
        xfam=XFAM,
        mr_td=measurements.mr_td,
        mr_config_id=bytes(MEASUREMENT_BYTES),
        mr_owner=bytes(MEASUREMENT_BYTES),
        mr_owner_config=bytes(MEASUREMENT_BYTES),
        rtmrs=measurements.rtmrs,
        report_data=bytes(REPORT_DATA_BYTES),
    )


@frozen(kw_only=True)
class SoftwarePlatform:
    """The made-up machine. The defaults are in order; change one to make a quote that must be refused.

    ``window`` is when collateral and certificates are valid; None means ten years around the opening.
    """

    quote: TdxQuote = field(factory=lambda: software_quote(label_measurements("default")))
    tcb_status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    qe_attributes: bytes = field(default=QE_ATTRIBUTES, validator=octets(16))
    qe_auth_data: bytes = QE_AUTH_DATA
    fmspc: bytes = field(default=DEVELOPMENT_FMSPC, validator=octets(6))
    collateral_fmspc: bytes = field(default=DEVELOPMENT_FMSPC, validator=octets(6))
    is_pck_revoked: bool = False
    window: Window | None = None


class SoftwareAttester:
    """One made-up machine under one development root; makes a quote in a fraction of a millisecond."""

    def __init__(self, root: DevelopmentRoot, *, now_s: int, platform: SoftwarePlatform | None = None) -> None:
        self._platform = platform or SoftwarePlatform()
        window = self._platform.window or Window(max(0, now_s - DAY_S), now_s + COLLATERAL_LIFE_S)
        self.anchor: TrustAnchor = root.anchor
        self.certificates = issue_platform(
            root,
            extension=sgx_extension(_pck_facts(self._platform)),
            window=window,
            is_revoked=self._platform.is_pck_revoked,
        )
        self.collateral = _collateral(self._platform, self.certificates, window)
        self._key, self._unsigned = _certify_key(self._platform, self.certificates)

    @classmethod
    def create(
        cls, directory: Path, name: str, *, now_s: int, platform: SoftwarePlatform | None = None
    ) -> "SoftwareAttester":
        """Return an attester under the root ``name`` in ``directory``, which is made if it is missing.

        Reads and writes files, so call it in a worker thread. Several processes may do so at once.

        :raises NoQuoteError: if the directory cannot be used.
        """
        return cls(create_root(directory, name, now_s=now_s), now_s=now_s, platform=platform)

    @classmethod
    def load(
        cls, directory: Path, name: str, *, now_s: int, platform: SoftwarePlatform | None = None
    ) -> "SoftwareAttester":
        """Return an attester under the root ``name`` in ``directory``, which must be there.

        :raises NoQuoteError: if it is not, or cannot be used.
        """
        return cls(load_root(directory, name), now_s=now_s, platform=platform)

    def evidence(self, report_data: bytes) -> Evidence:
        """Return a signed quote over ``report_data`` (64 bytes) and its collateral."""
        quote = evolve(self._platform.quote, report_data=report_data)
        auth = evolve(self._unsigned, signature=sign_raw(self._key, quote_identity(quote)))
        return Evidence(build_quote(quote, auth), self.collateral)


class SoftwareQuoteSource(QuoteSource):
    """Quotes of a made-up machine, under a root that several processes share through a directory.

    The public root lies in ``<directory>/<name>.root.der`` once the first quote is made.
    """

    name = "software"
    development = True

    def __init__(self, directory: Path, name: str, *, now_s: int, platform: SoftwarePlatform | None = None) -> None:
        self._directory = directory
        self._root_name = name
        self._now_s = now_s
        self._platform = platform
        self._attester: SoftwareAttester | None = None
        self._opening = anyio.Lock()

    async def quote(self, report_data: bytes) -> Evidence:
        """Return a fresh quote; the first call makes or reads the root in a worker thread."""
        async with self._opening:
            if self._attester is None:
                self._attester = await anyio.to_thread.run_sync(self._open)
        return self._attester.evidence(report_data)

    def _open(self) -> SoftwareAttester:
        return SoftwareAttester.create(self._directory, self._root_name, now_s=self._now_s, platform=self._platform)


def _pck_facts(platform: SoftwarePlatform) -> PckFacts:
    return PckFacts(
        fmspc=platform.fmspc,
        ppid=bytes(16),
        platform_instance=bytes(16),
        cpu_svn=CPU_SVN,
        pce_svn=PCE_SVN,
    )


def _certify_key(
    platform: SoftwarePlatform, certificates: PlatformCertificates
) -> tuple[ec.EllipticCurvePrivateKey, QuoteAuth]:
    """Return a new attestation key and what vouches for it, still without a signature of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    bound = hashlib.sha256(raw_public(key) + platform.qe_auth_data).digest()
    report = _QE_REPORT.pack(
        CPU_SVN, 0, b"", platform.qe_attributes, b"", b"", QE_SIGNER, b"", QE_PRODUCT, QE_SVN, b"", bound
    )
    auth = QuoteAuth(
        signature=bytes(64),
        attestation_key=raw_public(key),
        qe_report=report,
        qe_report_signature=sign_raw(certificates.pck_key, report),
        qe_auth_data=platform.qe_auth_data,
        pck_chain=certificates.pck_chain.encode(),
    )
    return key, auth


def _collateral(platform: SoftwarePlatform, certificates: PlatformCertificates, window: Window) -> str:
    """Return the JSON text of a DCAP collateral (version 3), signed over the exact inner texts."""
    tcb_info = json.dumps(_tcb_info(platform, window), separators=(",", ":"))
    qe_identity = json.dumps(_qe_identity(window), separators=(",", ":"))
    return json.dumps(
        {
            "pck_crl_issuer_chain": certificates.ca_chain,
            "root_ca_crl": certificates.root_crl.hex(),
            "pck_crl": certificates.pck_crl.hex(),
            "tcb_info_issuer_chain": certificates.tcb_chain,
            "tcb_info": tcb_info,
            "tcb_info_signature": sign_raw(certificates.tcb_key, tcb_info.encode()).hex(),
            "qe_identity_issuer_chain": certificates.tcb_chain,
            "qe_identity": qe_identity,
            "qe_identity_signature": sign_raw(certificates.tcb_key, qe_identity.encode()).hex(),
        }
    )


def _dates(window: Window) -> dict[str, str]:
    form = "%Y-%m-%dT%H:%M:%SZ"
    return {"issueDate": window.start.strftime(form), "nextUpdate": window.end.strftime(form)}


def _tcb_info(platform: SoftwarePlatform, window: Window) -> dict[str, object]:
    module: dict[str, object] = {
        "mrsigner": bytes(MEASUREMENT_BYTES).hex(),
        "attributes": bytes(8).hex(),
        "attributesMask": "FF" * 8,
    }
    module_level = {"tcb": {"isvsvn": TEE_TCB_SVN[0]}, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate"}
    level = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn} for svn in CPU_SVN],
            "pcesvn": PCE_SVN,
            "tdxtcbcomponents": [{"svn": svn} for svn in TEE_TCB_SVN],
        },
        "tcbDate": TCB_DATE,
        "tcbStatus": platform.tcb_status,
        "advisoryIDs": list(platform.advisories),
    }
    return {
        "id": "TDX",
        "version": 3,
        **_dates(window),
        "fmspc": platform.collateral_fmspc.hex().upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": TCB_EVALUATION,
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": f"TDX_{TEE_TCB_SVN[1]:02X}", **module, "tcbLevels": [module_level]}],
        "tcbLevels": [level],
    }


def _qe_identity(window: Window) -> dict[str, object]:
    level = {"tcb": {"isvsvn": QE_SVN}, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate"}
    return {
        "id": "TD_QE",
        "version": 2,
        **_dates(window),
        "tcbEvaluationDataNumber": TCB_EVALUATION,
        "miscselect": bytes(4).hex(),
        "miscselectMask": "FF" * 4,
        "attributes": QE_ATTRIBUTES.hex().upper(),
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": QE_PRODUCT,
        "tcbLevels": [level],
    }
