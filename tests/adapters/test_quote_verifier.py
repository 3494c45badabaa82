import json
import subprocess
import sys

import anyio.to_thread
import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier, reason_of
from compute_bridge.adapters.software_pki import DAY_S, DevelopmentRoot, Window, raw_public, sign_raw
from compute_bridge.adapters.software_quotes import (
    QE_ATTRIBUTES,
    TEE_TCB_SVN,
    SoftwareAttester,
    SoftwarePlatform,
    label_measurements,
    software_quote,
)
from compute_bridge.model.quote import (
    INTEL_ANCHOR,
    AttestationReason,
    Evidence,
    Measurements,
    QuotePolicy,
    TrustAnchor,
)
from compute_bridge.ports.errors import AttestationError
from compute_bridge.wire.quote import build_quote, parse_quote, quote_hash, quote_identity, split_quote

NOW = 1_790_000_000
CURVE_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
REPORT_DATA = bytes(range(64))
ROOT = DevelopmentRoot.generate("alice", now_s=NOW)
ATTESTER = SoftwareAttester(ROOT, now_s=NOW)
EVIDENCE = ATTESTER.evidence(REPORT_DATA)
POLICY = QuotePolicy(anchors=(INTEL_ANCHOR, ROOT.anchor), allow_development=True)
QUOTE = software_quote(label_measurements("default"))
TD15 = attrs.evolve(QUOTE, version=5, tee_tcb_svn2=TEE_TCB_SVN, mr_service_td=bytes(48))
VERIFIER = DcapQuoteVerifier()


def verify(evidence=EVIDENCE, *, report_data=REPORT_DATA, now_s=NOW, policy=POLICY):
    return VERIFIER.verify(evidence, report_data=report_data, now_s=now_s, policy=policy)


def refused(evidence=EVIDENCE, **arguments):
    with pytest.raises(AttestationError) as caught:
        verify(evidence, **arguments)
    return caught.value


def made_by(**platform):
    return SoftwareAttester(ROOT, now_s=NOW, platform=SoftwarePlatform(**platform)).evidence(REPORT_DATA)


def quoting(**changes):
    return made_by(quote=attrs.evolve(QUOTE, **changes))


def with_auth(**changes):
    quote, auth = split_quote(EVIDENCE.quote)
    return attrs.evolve(EVIDENCE, quote=build_quote(quote, attrs.evolve(auth, **changes)))


def with_collateral(**changes):
    return attrs.evolve(EVIDENCE, collateral=json.dumps(json.loads(ATTESTER.collateral) | changes))


# --- what passes ------------------------------------------------------------------------------


def test_a_good_quote_says_what_it_proves():
    verified = verify()

    assert ("alice", "UpToDate", (), label_measurements("default"), REPORT_DATA) == (
        verified.anchor,
        verified.tcb_status,
        verified.advisories,
        verified.measurements,
        verified.report_data,
    )


def test_a_development_anchor_marks_the_result():
    assert verify().development


def test_the_result_lapses_with_its_collateral():
    evidence = made_by(window=Window(NOW - 60, NOW + 60))

    assert NOW + 60 == verify(evidence).expires_at_s


@pytest.mark.parametrize("quote", [QUOTE, attrs.evolve(QUOTE, version=5), TD15], ids=["v4", "v5-td10", "v5-td15"])
def test_every_form_of_quote_passes(quote):
    evidence = made_by(quote=quote)

    assert quote_hash(parse_quote(evidence.quote)) == verify(evidence).quote_hash


def test_an_allowed_status_passes_and_is_told():
    policy = attrs.evolve(POLICY, allowed_tcb_statuses=("UpToDate", "OutOfDate"))
    evidence = made_by(tcb_status="OutOfDate", advisories=("INTEL-SA-00001",))
    verified = verify(evidence, policy=policy)

    assert ("OutOfDate", ("INTEL-SA-00001",)) == (verified.tcb_status, verified.advisories)


def test_allowed_measurements_pass():
    policy = attrs.evolve(POLICY, allowed_measurements=(label_measurements("other"), label_measurements("default")))

    assert label_measurements("default") == verify(policy=policy).measurements


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("report_data", [bytes(64), REPORT_DATA[:32], b"", REPORT_DATA + b"\0"])
def test_other_report_data_is_refused(report_data):
    assert "quote-report-data" == refused(report_data=report_data).reason


def test_a_development_anchor_is_refused_unless_allowed():
    policy = attrs.evolve(POLICY, allow_development=False)

    assert "development-attester" == refused(policy=policy).reason


def test_a_development_anchor_passed_off_as_real_is_refused():
    disguised = TrustAnchor("production", ROOT.anchor.root_ca_der, development=False)

    assert "development-attester" == refused(policy=QuotePolicy(anchors=(disguised,))).reason


@pytest.mark.parametrize(
    "anchor",
    [
        INTEL_ANCHOR,
        DevelopmentRoot.generate("bob", now_s=NOW).anchor,
        DevelopmentRoot.generate("alice", now_s=NOW).anchor,
        TrustAnchor("garbage", b"not a certificate", development=True),
    ],
    ids=["intel", "other-name", "same-name", "garbage"],
)
def test_a_foreign_anchor_verifies_nothing(anchor):
    policy = QuotePolicy(anchors=(anchor,), allow_development=True)

    assert "quote-anchor" == refused(policy=policy).reason


def test_the_fault_of_a_quote_is_told_rather_than_the_anchors_it_does_not_end_at():
    policy = attrs.evolve(POLICY, anchors=(ROOT.anchor, INTEL_ANCHOR))

    assert "quote-revoked" == refused(made_by(is_pck_revoked=True), policy=policy).reason


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (quoting(td_attributes=bytes([1, 0, 0, 0x10, 0, 0, 0, 0])), "quote-debug"),
        (quoting(td_attributes=bytes([0x80, 0, 0, 0x10, 0, 0, 0, 0])), "quote-debug"),
        (quoting(td_attributes=bytes(8)), "quote-attributes"),
        (quoting(td_attributes=bytes([0, 1, 0, 0x10, 0, 0, 0, 0])), "quote-attributes"),
        (quoting(td_attributes=bytes([0, 0, 0, 0x30, 0, 0, 0, 0])), "quote-attributes"),
        (made_by(quote=attrs.evolve(TD15, mr_service_td=bytes([1] * 48))), "quote-attributes"),
        (made_by(quote=attrs.evolve(TD15, tee_tcb_svn2=bytes(16))), "quote-tcb-status"),
        (quoting(tee_tcb_svn=bytes(16)), "quote-tcb-status"),
        (quoting(tee_tcb_svn=bytes([3, *TEE_TCB_SVN[1:]])), "quote-tcb-status"),
        (quoting(tee_tcb_svn=bytes([4, 9, *TEE_TCB_SVN[2:]])), "quote-tcb-status"),
        (quoting(mr_signer_seam=bytes([1] * 48)), "quote-tdx-module"),
        (quoting(seam_attributes=bytes([1] * 8)), "quote-tdx-module"),
        (quoting(qe_vendor_id=bytes(16)), "quote-qe-identity"),
        (made_by(tcb_status="OutOfDate"), "quote-tcb-status"),
        (made_by(tcb_status="SWHardeningNeeded"), "quote-tcb-status"),
        (made_by(tcb_status="Revoked"), "quote-revoked"),
        (made_by(tcb_status="Splendid"), "quote-collateral-malformed"),
        (made_by(is_pck_revoked=True), "quote-revoked"),
        (made_by(qe_attributes=bytes([0x13, *QE_ATTRIBUTES[1:]])), "quote-qe-identity"),
        (made_by(qe_auth_data=bytes(31)), "quote-qe-identity"),
        (made_by(fmspc=bytes(6)), "quote-collateral-mismatch"),
        (made_by(collateral_fmspc=bytes(6)), "quote-collateral-mismatch"),
        (made_by(window=Window(NOW - 60, NOW - 1)), "quote-collateral-expired"),
        (made_by(window=Window(NOW + 1, NOW + 60)), "quote-collateral-future"),
        (with_auth(signature=bytes([1] * 64)), "quote-signature"),
        (with_auth(qe_report_signature=bytes([1] * 64)), "quote-signature"),
        (with_auth(qe_report=bytes(384)), "quote-signature"),
        (with_auth(qe_auth_data=bytes(32)), "quote-qe-identity"),
        (with_auth(pck_chain=b"no certificate"), "quote-certificate"),
        (with_auth(pck_chain=ATTESTER.certificates.ca_chain.encode()), "quote-certificate"),
        (attrs.evolve(EVIDENCE, collateral=None), "quote-collateral-missing"),
        (attrs.evolve(EVIDENCE, collateral="{"), "quote-collateral-malformed"),
        (attrs.evolve(EVIDENCE, collateral="[" * 5000), "quote-collateral-malformed"),
        (with_collateral(tcb_info="{}"), "quote-collateral-malformed"),
        (with_collateral(qe_identity="{}"), "quote-collateral-malformed"),
        (with_collateral(pck_crl="00"), "quote-collateral-malformed"),
        (with_collateral(root_ca_crl="00"), "quote-collateral-malformed"),
        (with_collateral(tcb_info_issuer_chain=""), "quote-collateral-malformed"),
        (with_collateral(qe_identity_issuer_chain=""), "quote-collateral-malformed"),
        (with_collateral(tcb_info_signature="01" * 64), "quote-signature"),
        (with_collateral(qe_identity_signature="01" * 64), "quote-signature"),
        (Evidence(b"\x03\0" + EVIDENCE.quote[2:], EVIDENCE.collateral), "quote-malformed"),
        (Evidence(EVIDENCE.quote + b"x", EVIDENCE.collateral), "quote-malformed"),
    ],
)
def test_a_bad_quote_is_refused_with_its_reason(evidence, reason):
    assert reason == refused(evidence).reason


@pytest.mark.parametrize(
    ("now_s", "reason"),
    [
        (NOW - 2 * DAY_S, "quote-collateral-future"),
        (NOW + 11 * 365 * DAY_S, "quote-collateral-expired"),
        (0, "quote-collateral-future"),
        (2**62, "quote-collateral-expired"),
    ],
)
def test_time_outside_the_collaterals_window_is_refused(now_s, reason):
    assert reason == refused(now_s=now_s).reason


def test_an_attestation_key_that_no_enclave_vouches_for_is_refused():
    key = ec.generate_private_key(ec.SECP256R1())
    quote, _ = split_quote(EVIDENCE.quote)
    forged = with_auth(attestation_key=raw_public(key), signature=sign_raw(key, quote_identity(quote)))

    assert "quote-qe-identity" == refused(forged).reason


def test_a_quote_under_another_roots_collateral_is_refused():
    bob = SoftwareAttester(DevelopmentRoot.generate("bob", now_s=NOW), now_s=NOW).evidence(REPORT_DATA)

    assert "quote-anchor" == refused(attrs.evolve(bob, collateral=EVIDENCE.collateral)).reason


def test_collateral_signed_under_another_root_is_refused():
    bob = SoftwareAttester(DevelopmentRoot.generate("bob", now_s=NOW), now_s=NOW, platform=SoftwarePlatform())
    theirs = json.loads(bob.collateral)
    parts = ("tcb_info", "tcb_info_signature", "tcb_info_issuer_chain")

    assert "quote-anchor" == refused(with_collateral(**{part: theirs[part] for part in parts})).reason


def test_a_rejected_advisory_is_refused_by_name():
    policy = attrs.evolve(POLICY, rejected_advisories=("INTEL-SA-00002",))
    error = refused(made_by(advisories=("INTEL-SA-00001", "INTEL-SA-00002")), policy=policy)

    assert ("quote-advisory", True) == (error.reason, "open advisories INTEL-SA-00002;" in str(error))


@pytest.mark.parametrize("register", range(5))
def test_measurements_off_the_allow_list_are_refused_whichever_differs(register):
    good = label_measurements("default")
    registers = [good.mr_td, *good.rtmrs]
    registers[register] = bytes(48)
    allowed = (Measurements(registers[0], tuple(registers[1:])),)

    assert "quote-measurements" == refused(policy=attrs.evolve(POLICY, allowed_measurements=allowed)).reason


def test_an_empty_allow_list_allows_nothing():
    assert "quote-measurements" == refused(policy=attrs.evolve(POLICY, allowed_measurements=())).reason


# --- flips and malleability -------------------------------------------------------------------


@given(offset=st.integers(0, len(EVIDENCE.quote) - 1), mask=st.integers(1, 255))
@settings(max_examples=300)
def test_a_flipped_byte_is_refused_or_proves_the_same(offset, mask):
    raw = bytearray(EVIDENCE.quote)
    raw[offset] ^= mask
    try:
        verified = verify(Evidence(bytes(raw), EVIDENCE.collateral))
    except AttestationError:
        return

    assert attrs.evolve(verify(), expires_at_s=None) == attrs.evolve(verified, expires_at_s=None)


@pytest.mark.parametrize("offset", range(0, len(EVIDENCE.quote), 61))
def test_no_flip_leaves_us_without_a_word_for_it(offset):
    raw = bytearray(EVIDENCE.quote)
    raw[offset] ^= 0x55
    try:
        verify(Evidence(bytes(raw), EVIDENCE.collateral))
    except AttestationError as error:
        reason = error.reason
    else:
        reason = "proves the same"

    assert AttestationReason.REJECTED != reason


@given(offset=st.integers(0, len(ATTESTER.collateral) - 1), mask=st.integers(1, 127))
@settings(max_examples=300)
def test_a_flipped_byte_of_collateral_is_refused_or_proves_the_same(offset, mask):
    text = ATTESTER.collateral
    flipped = text[:offset] + chr(ord(text[offset]) ^ mask) + text[offset + 1 :]
    try:
        verified = verify(Evidence(EVIDENCE.quote, flipped))
    except AttestationError:
        return

    assert attrs.evolve(verify(), expires_at_s=None) == attrs.evolve(verified, expires_at_s=None)


@given(size=st.integers(1, len(EVIDENCE.quote) - 1))
def test_a_truncated_quote_is_malformed(size):
    assert "quote-malformed" == refused(Evidence(EVIDENCE.quote[:size], EVIDENCE.collateral)).reason


def test_a_mirrored_signature_proves_the_same():
    signature = split_quote(EVIDENCE.quote)[1].signature
    mirrored = CURVE_ORDER - int.from_bytes(signature[32:], "big")
    other = with_auth(signature=signature[:32] + mirrored.to_bytes(32, "big"))

    assert verify() == verify(other)


def test_padding_proves_the_same():
    assert verify() == verify(Evidence(EVIDENCE.quote + bytes(70), EVIDENCE.collateral))


def test_a_quote_signed_anew_proves_the_same():
    assert verify() == verify(ATTESTER.evidence(REPORT_DATA))


# --- texts ------------------------------------------------------------------------------------


def test_words_in_unverified_collateral_do_not_choose_the_reason():
    text = "Verification failed: Failed to decode TcbInfo\n\nCaused by:\n    unknown variant `CertRevoked`"

    assert AttestationReason.COLLATERAL_MALFORMED is reason_of(text)


def test_a_text_we_have_no_word_for_is_rejected():
    assert AttestationReason.REJECTED is reason_of("Verification failed: the moon is full")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("QE Identity expired", AttestationReason.COLLATERAL_EXPIRED),
        ("QE Identity issue date is in the future", AttestationReason.COLLATERAL_FUTURE),
        ("Failed to verify certificate chain\n\nCaused by:\n    CertExpired { .. }", AttestationReason.CERTIFICATE),
        ("Failed to verify certificate chain\n\nCaused by:\n    BadDer", AttestationReason.CERTIFICATE),
        ("Failed to parse PCK CRL\n\nCaused by:\n    BadDer", AttestationReason.COLLATERAL_MALFORMED),
        ("TD profiling is enabled", AttestationReason.ATTRIBUTES),
        ("SERVTD_EXT is enabled", AttestationReason.ATTRIBUTES),
        ("TDX quote with non-TDX TCB info in the collateral", AttestationReason.COLLATERAL_MISMATCH),
    ],
)
def test_a_text_the_attester_cannot_provoke_has_a_reason_too(text, reason):
    assert reason is reason_of(f"Verification failed: {text}")


def test_a_message_is_one_printable_line_however_hostile_the_quote():
    error = refused(with_auth(pck_chain=b"-----BEGIN \x1b[31m\n\n\xff" + b"x" * 5000))

    assert str(error).isprintable()
    assert len(str(error)) < 500


@pytest.mark.anyio
async def test_a_loaded_verifier_does_not_block_the_event_loop():
    verifier = DcapQuoteVerifier()
    await anyio.to_thread.run_sync(verifier.load)
    verified = verifier.verify(EVIDENCE, report_data=REPORT_DATA, now_s=NOW, policy=POLICY)

    assert "alice" == verified.anchor


def test_importing_the_verifier_does_not_import_the_library():
    program = "import sys, compute_bridge.adapters.quote_verifier; print('dcap_qvl' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False" == result.stdout.strip()


def test_loading_imports_the_library():
    program = (
        "import sys, compute_bridge.adapters.quote_verifier as v; "
        "v.DcapQuoteVerifier().load(); print('dcap_qvl' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "True" == result.stdout.strip()
