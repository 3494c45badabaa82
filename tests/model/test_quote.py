import attrs
import pytest

from compute_bridge.model.quote import (
    INTEL_ANCHOR,
    INTEL_ROOT,
    MAX_COLLATERAL_BYTES,
    MAX_QUOTE_BYTES,
    Evidence,
    Measurements,
    QuotePolicy,
    TdxQuote,
    TrustAnchor,
)

REGISTER = bytes(48)
QUOTE = TdxQuote(
    version=5,
    qe_vendor_id=bytes(16),
    tee_tcb_svn=bytes(16),
    mr_seam=REGISTER,
    mr_signer_seam=REGISTER,
    seam_attributes=bytes(8),
    td_attributes=bytes(8),
    xfam=bytes(8),
    mr_td=bytes([1] * 48),
    mr_config_id=REGISTER,
    mr_owner=REGISTER,
    mr_owner_config=REGISTER,
    rtmrs=(REGISTER,) * 4,
    report_data=bytes(64),
)


def test_a_policy_without_an_anchor_is_refused():
    with pytest.raises(ValueError, match="anchors must be a list of 1 to 16"):
        QuotePolicy(anchors=())


def test_two_anchors_of_one_name_are_refused():
    with pytest.raises(ValueError, match="distinct names"):
        QuotePolicy(anchors=(INTEL_ANCHOR, INTEL_ANCHOR))


def test_no_policy_allows_a_revoked_platform():
    with pytest.raises(ValueError, match="'Revoked' cannot be allowed"):
        QuotePolicy(anchors=(INTEL_ANCHOR,), allowed_tcb_statuses=("UpToDate", "Revoked"))


def test_a_policy_allows_no_development_and_only_up_to_date_unless_told():
    policy = QuotePolicy(anchors=(INTEL_ANCHOR,))

    assert (False, ("UpToDate",)) == (policy.allow_development, policy.allowed_tcb_statuses)


def test_another_root_cannot_take_the_name_of_intel():
    with pytest.raises(ValueError, match="no other may take its name"):
        TrustAnchor(INTEL_ROOT, b"der", development=False)


def test_an_anchor_without_a_root_is_refused():
    with pytest.raises(ValueError, match="only 'intel-sgx-root' has no root_ca_der"):
        TrustAnchor("alice", None, development=True)


def test_intel_cannot_be_marked_as_development():
    with pytest.raises(ValueError, match="is not a development anchor"):
        TrustAnchor(INTEL_ROOT, None, development=True)


@pytest.mark.parametrize("name", ["", "../alice", "Alice", "a" * 64])
def test_an_anchor_needs_a_label_for_a_name(name):
    with pytest.raises(ValueError, match="name"):
        TrustAnchor(name, b"der", development=True)


@pytest.mark.parametrize("size", [0, MAX_QUOTE_BYTES + 1])
def test_evidence_bounds_its_quote(size):
    with pytest.raises(ValueError, match="quote must be 1 to 16384 bytes"):
        Evidence(bytes(size))


def test_evidence_bounds_its_collateral_by_bytes_not_characters():
    with pytest.raises(ValueError, match="more than 65536"):
        Evidence(b"q", "é" * (MAX_COLLATERAL_BYTES // 2 + 1))


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_evidence_refuses_collateral_that_is_no_text(text):
    with pytest.raises(ValueError, match="collateral"):
        Evidence(b"q", text)


def test_measurements_have_four_registers_of_48_bytes():
    with pytest.raises(ValueError, match="rtmrs must be a list of 4 to 4 items"):
        Measurements(REGISTER, (REGISTER,) * 3)


def test_a_quote_tells_its_measurements():
    expected = Measurements(bytes([1] * 48), (REGISTER,) * 4)

    assert expected == QUOTE.measurements


@pytest.mark.parametrize("bit", range(8))
def test_any_bit_of_the_untrusted_debug_byte_is_debug(bit):
    quote = attrs.evolve(QUOTE, td_attributes=bytes([1 << bit, *bytes(7)]))

    assert quote.is_debug


def test_a_quote_without_debug_bits_is_not_debug():
    assert not attrs.evolve(QUOTE, td_attributes=bytes([0, *[0xFF] * 7])).is_debug


@pytest.mark.parametrize(
    "change",
    [
        {"tee_tcb_svn2": bytes(16)},
        {"mr_service_td": REGISTER},
        {"tee_tcb_svn2": bytes(15), "mr_service_td": REGISTER},
        {"tee_tcb_svn2": bytes(16), "mr_service_td": bytes(47)},
        {"tee_tcb_svn2": bytes(16), "mr_service_td": REGISTER, "version": 4},
    ],
)
def test_half_a_td15_body_is_refused(change):
    with pytest.raises(ValueError):
        attrs.evolve(QUOTE, **change)
