"""Quote verification by dcap-qvl, under our own policy and with our own reason codes."""

import hmac
import json
from typing import Any

from compute_bridge.model.errors import RecordError
from compute_bridge.model.quote import (
    DEVELOPMENT_FMSPC,
    AttestationReason,
    Evidence,
    QuotePolicy,
    TdxQuote,
    TrustAnchor,
    VerifiedQuote,
)
from compute_bridge.ports.attestation import QuoteVerifier
from compute_bridge.ports.errors import AttestationError
from compute_bridge.wire.quote import parse_quote, quote_hash

_TEXT_LIMIT = 300

# The library has one error type and many texts, so they are told apart by how they begin; the first match decides.
# Never by what they contain: parts of them are quoted from collateral that nobody has verified yet.
# Texts of dcap-qvl 0.7.0; one that is not here becomes REJECTED, never a pass.
_REASONS = (
    ("CertRevoked", AttestationReason.REVOKED),
    ("TCB status is invalid: Revoked", AttestationReason.REVOKED),
    ("CertExpired", AttestationReason.CERTIFICATE),
    ("CertNotValidYet", AttestationReason.CERTIFICATE),
    ("CrlExpired", AttestationReason.COLLATERAL_EXPIRED),
    ("TCBInfo expired", AttestationReason.COLLATERAL_EXPIRED),
    ("QE Identity expired", AttestationReason.COLLATERAL_EXPIRED),
    ("TCBInfo issue date is in the future", AttestationReason.COLLATERAL_FUTURE),
    ("QE Identity issue date is in the future", AttestationReason.COLLATERAL_FUTURE),
    ("UnknownIssuer", AttestationReason.ANCHOR),
    ("InvalidCrlSignatureForPublicKey", AttestationReason.ANCHOR),
    ("Failed to load root ca", AttestationReason.ANCHOR),
    ("Failed to parse root CA certificate", AttestationReason.ANCHOR),
    ("InvalidSignatureForPublicKey", AttestationReason.SIGNATURE),
    ("Signature is invalid for", AttestationReason.SIGNATURE),
    ("ISV enclave report signature is invalid", AttestationReason.SIGNATURE),
    ("QE report hash mismatch", AttestationReason.QE_IDENTITY),
    ("QE report validation failed", AttestationReason.QE_IDENTITY),
    ("Failed to decode QE report", AttestationReason.QE_IDENTITY),
    ("Invalid QE auth data length", AttestationReason.QE_IDENTITY),
    ("Unknown QE vendor ID", AttestationReason.QE_IDENTITY),
    ("Debug mode is enabled", AttestationReason.DEBUG),
    ("SEPT_VE_DISABLE is not enabled", AttestationReason.ATTRIBUTES),
    ("Reserved bits in TD attributes are set", AttestationReason.ATTRIBUTES),
    ("TD migration is enabled", AttestationReason.ATTRIBUTES),
    ("TD profiling is enabled", AttestationReason.ATTRIBUTES),
    ("SERVTD_EXT is enabled", AttestationReason.ATTRIBUTES),
    ("Invalid MR service TD", AttestationReason.ATTRIBUTES),
    ("TDX module identity", AttestationReason.TDX_MODULE),
    ("TDX module", AttestationReason.TCB_STATUS),
    ("No matching TCB level found", AttestationReason.TCB_STATUS),
    ("Failed to evaluate the current TDX TCB", AttestationReason.TCB_STATUS),
    ("Fmspc mismatch", AttestationReason.COLLATERAL_MISMATCH),
    ("TDX quote with non-TDX TCB info", AttestationReason.COLLATERAL_MISMATCH),
    ("Unsupported QE Identity", AttestationReason.COLLATERAL_MISMATCH),
    ("UnknownRevocationStatus", AttestationReason.COLLATERAL_MISMATCH),
    ("Failed to decode quote", AttestationReason.MALFORMED),
    ("Failed to extract PCK certificates from quote", AttestationReason.CERTIFICATE),
    ("Certificate chain is too short in quote", AttestationReason.CERTIFICATE),
    ("Failed to parse PCK certificate", AttestationReason.CERTIFICATE),
    ("Failed to get Intel extension", AttestationReason.CERTIFICATE),
    ("Failed to verify certificate chain", AttestationReason.CERTIFICATE),
    ("Failed to parse certs", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to extract PCK certificates from collateral", AttestationReason.COLLATERAL_MALFORMED),
    ("Certificate chain is too short for", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to decode TcbInfo", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to decode QeIdentity", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to decode TCB FMSPC", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to parse TCB Info", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to parse QE Identity", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to parse root CA CRL", AttestationReason.COLLATERAL_MALFORMED),
    ("Failed to parse PCK CRL", AttestationReason.COLLATERAL_MALFORMED),
    ("Unrecognized TCB status", AttestationReason.COLLATERAL_MALFORMED),
    ("Invalid key length", AttestationReason.COLLATERAL_MALFORMED),
)
# Only below these does the cause say more than the failure; it is a bare word of the certificate library.
_CAUSED = ("Failed to verify certificate chain", "Failed to parse root CA CRL", "Failed to parse PCK CRL")

_MENDS = {
    AttestationReason.ANCHOR: "name its root among attestation.anchors, or refuse its bearer",
    AttestationReason.COLLATERAL_EXPIRED: "the bridge must fetch fresh collateral",
    AttestationReason.COLLATERAL_FUTURE: "compare the clocks of bridge and verifier",
    AttestationReason.COLLATERAL_MISMATCH: "the bridge must send the collateral of its own platform",
    AttestationReason.DEBUG: "start the guest without the debug attribute",
    AttestationReason.TCB_STATUS: "update the platform's firmware and TDX module",
}
_REFUSE = "refuse its bearer"


class DcapQuoteVerifier(QuoteVerifier):
    """Verifies with dcap-qvl, in about a millisecond a quote, so also on an event loop.

    The library is 6 MB and imported at the first quote, or by :meth:`load` in a worker thread before an event loop
    that may not block needs it.
    """

    def load(self) -> None:
        """Import the library now; blocks for some tens of milliseconds, the first time only."""
        _library()

    def verify(self, evidence: Evidence, *, report_data: bytes, now_s: int, policy: QuotePolicy) -> VerifiedQuote:
        """Return what ``evidence`` proves: the cheap checks first, then the signatures, then the policy."""
        quote = _parse(evidence)
        if not hmac.compare_digest(quote.report_data, report_data):
            raise _refusal(
                AttestationReason.REPORT_DATA,
                "report data does not bind the keys and challenge it came with",
            )
        if quote.is_debug:
            raise _refusal(AttestationReason.DEBUG, "the TD can be debugged by its host")
        if evidence.collateral is None:
            raise _refusal(
                AttestationReason.COLLATERAL_MISSING,
                "no collateral came with it",
                "the bridge must send its collateral",
            )
        anchor, claims = _under_any(policy.anchors, evidence.quote, evidence.collateral, now_s)
        _same_report(quote, claims)
        verified = _verified(quote, anchor, claims)
        _demand(verified, policy, now_s)
        return verified


def reason_of(text: str) -> AttestationReason:
    """Return our code for an error text of dcap-qvl; ``REJECTED`` where we have no word for it."""
    failure, _, cause = text.removeprefix("Verification failed: ").partition("\n\nCaused by:\n")
    beginnings = (cause.strip(), failure) if failure in _CAUSED else (failure,)
    for beginning in beginnings:
        for known, reason in _REASONS:
            if beginning.startswith(known):
                return reason
    return AttestationReason.REJECTED


def _refusal(reason: AttestationReason, what: str, mend: str = "") -> AttestationError:
    mend = mend or _MENDS.get(reason, _REFUSE)
    return AttestationError(f"quote: {what}; {mend}", reason=reason)


def _parse(evidence: Evidence) -> TdxQuote:
    try:
        return parse_quote(evidence.quote)
    except RecordError as error:
        raise AttestationError(f"{error}; {_REFUSE}", reason=AttestationReason.MALFORMED) from error


def _under_any(
    anchors: tuple[TrustAnchor, ...], quote: bytes, collateral: str, now_s: int
) -> tuple[TrustAnchor, dict[str, Any]]:
    """Return the anchor that the quote ends at, and the claims; every anchor is tried.

    Tried, not looked up: the root in a quote's own chain is one of its malleable parts.
    """
    parsed = _collateral(collateral)
    failures = []
    for anchor in anchors:
        try:
            return anchor, _claims(anchor, quote, parsed, now_s)
        except ValueError as error:
            text = _explain(anchor, quote, parsed, now_s, str(error))
            failures.append((reason_of(text), text, error))
    # An anchor that is merely another one says nothing about the quote.
    failures.sort(key=lambda failure: failure[0] is AttestationReason.ANCHOR)
    reason, text, cause = failures[0]
    tried = ", ".join(anchor.name for anchor in anchors)
    raise _refusal(reason, f"not verified under {tried}: {_one_line(text)}") from cause


def _library() -> Any:
    # Here and not above: a bridge that has no quote to verify never pays for it.
    import dcap_qvl  # type: ignore[import-untyped]

    return dcap_qvl


def _collateral(text: str) -> Any:
    try:
        return _library().QuoteCollateralV3.from_json(text)
    except ValueError as error:
        raise _refusal(AttestationReason.COLLATERAL_MALFORMED, f"collateral: {_one_line(str(error))}") from error


def _claims(anchor: TrustAnchor, quote: bytes, collateral: Any, now_s: int) -> dict[str, Any]:
    library = _library()
    # Not its strict policy: that one refuses good multi-socket servers, and its statuses cannot be allowed without
    # grace periods. Signatures, windows, revocation and attributes hold regardless.
    policy = library.QuotePolicy.claims_only(now_s)
    verifier = library.QuoteVerifier(anchor.root_ca_der)
    claims: dict[str, Any] = json.loads(verifier.verify_with_policy(quote, collateral, now_s, policy).to_json())
    return claims


def _explain(anchor: TrustAnchor, quote: bytes, collateral: Any, now_s: int, text: str) -> str:
    """Return the fuller text of a failure: only the older call tells what it was caused by."""
    library = _library()
    try:
        if anchor.root_ca_der is None:
            library.verify(quote, collateral, now_s)
        else:
            library.verify_with_root_ca(quote, collateral, anchor.root_ca_der, now_s)
    except ValueError as error:
        return str(error)
    return text


def _same_report(quote: TdxQuote, claims: dict[str, Any]) -> None:
    """Check that the library read the same report as we did, or one of the two can be fooled."""
    report = claims["report"]
    report = report["TD15"]["base"] if "TD15" in report else report["TD10"]
    theirs = [report["mr_td"], *(report[f"rt_mr{index}"] for index in range(4)), report["report_data"]]
    ours = [part.hex() for part in (quote.mr_td, *quote.rtmrs, quote.report_data)]
    if ours != theirs:
        raise _refusal(AttestationReason.MALFORMED, "it reads differently to two parsers")


def _verified(quote: TdxQuote, anchor: TrustAnchor, claims: dict[str, Any]) -> VerifiedQuote:
    is_made_up = bytes(claims["platform"]["pck"]["fmspc"]) == DEVELOPMENT_FMSPC
    return VerifiedQuote(
        anchor=anchor.name,
        development=anchor.development or is_made_up,
        tcb_status=claims["tcb"]["status"],
        advisories=tuple(claims["tcb"]["advisory_ids"]),
        measurements=quote.measurements,
        report_data=quote.report_data,
        quote_hash=quote_hash(quote),
        expires_at_s=min(claims["earliest_expiration_date"], claims["qe_iden_earliest_expiration_date"]),
    )


def _demand(verified: VerifiedQuote, policy: QuotePolicy, now_s: int) -> None:
    if verified.development and not policy.allow_development:
        raise _refusal(
            AttestationReason.DEVELOPMENT,
            f"anchor {verified.anchor!r} proves nothing about hardware",
            "allow development attestation in words, or refuse its bearer",
        )
    if verified.expires_at_s is not None and verified.expires_at_s <= now_s:
        raise _refusal(AttestationReason.COLLATERAL_EXPIRED, f"collateral lapsed at {verified.expires_at_s}")
    if verified.tcb_status not in policy.allowed_tcb_statuses:
        raise _refusal(
            AttestationReason.TCB_STATUS,
            f"TCB status {verified.tcb_status} is none of {', '.join(policy.allowed_tcb_statuses)}",
        )
    rejected = sorted(set(verified.advisories) & set(policy.rejected_advisories))
    if rejected:
        raise _refusal(AttestationReason.ADVISORY, f"open advisories {', '.join(rejected)}")
    allowed = policy.allowed_measurements
    if allowed is not None and verified.measurements not in allowed:
        raise _refusal(
            AttestationReason.MEASUREMENTS,
            f"MRTD {verified.measurements.mr_td.hex()} with its RTMRs is not on the allow-list",
        )


def _one_line(text: str) -> str:
    """Return ``text`` fit for a log: parts of it come from whoever sent the quote."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in line)[:_TEXT_LIMIT]
