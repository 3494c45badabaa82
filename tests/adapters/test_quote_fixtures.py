"""Real quotes, where they are at hand: this repository makes its own and carries nobody else's."""

import os
from pathlib import Path

import attrs
import pytest

from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier
from compute_bridge.model.quote import INTEL_ANCHOR, Evidence, QuotePolicy
from compute_bridge.ports.errors import AttestationError
from compute_bridge.wire.quote import build_quote, parse_quote, split_quote

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
FIXTURES = Path(os.environ.get("COMPUTE_BRIDGE_FIXTURES", BESIDE)) / "attestation"
# The collateral of the good quote holds from 2025-06-19 10:32:27 UTC until 2025-07-19 10:00:35.
FIRST_S, LAPSE_S = 1750329147, 1752919235
# Within the time of the outdated one's: 2026-02-18 12:00:00 UTC.
OUTDATED_S = 1771416000
POLICY = QuotePolicy(anchors=(INTEL_ANCHOR,))

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="fixtures: set COMPUTE_BRIDGE_FIXTURES to their folder")


def real(name):
    raw = (FIXTURES / "dcap-qvl" / name).read_bytes()
    collateral = (FIXTURES / "dcap-qvl" / f"{name}_collateral.json").read_text()
    return Evidence(raw, collateral)


def verify(evidence, now_s=FIRST_S, policy=POLICY):
    quote = parse_quote(evidence.quote)
    return DcapQuoteVerifier().verify(evidence, report_data=quote.report_data, now_s=now_s, policy=policy)


def refused(evidence, **arguments):
    with pytest.raises(AttestationError) as caught:
        verify(evidence, **arguments)
    return caught.value


@pytest.mark.parametrize("now_s", [FIRST_S, LAPSE_S - 1])
def test_a_real_quote_verifies_under_intels_root_in_its_time(now_s):
    verified = verify(real("tdx_quote"), now_s=now_s)

    assert ("intel-sgx-root", False, "UpToDate", LAPSE_S) == (
        verified.anchor,
        verified.development,
        verified.tcb_status,
        verified.expires_at_s,
    )


@pytest.mark.parametrize(
    ("now_s", "reason"), [(FIRST_S - 1, "quote-collateral-future"), (LAPSE_S, "quote-collateral-expired")]
)
def test_a_real_quote_is_refused_outside_its_time(now_s, reason):
    assert reason == refused(real("tdx_quote"), now_s=now_s).reason


def test_a_real_quote_of_an_outdated_platform_is_refused():
    assert "quote-tcb-status" == refused(real("tdx_quote_outdated"), now_s=OUTDATED_S).reason


def test_a_real_quote_off_the_allow_list_is_refused():
    policy = attrs.evolve(POLICY, allowed_measurements=())

    assert "quote-measurements" == refused(real("tdx_quote"), policy=policy).reason


def test_an_sgx_quote_is_not_a_tdx_quote():
    evidence = real("sgx_quote")

    with pytest.raises(AttestationError, match="version 3 is not a TDX quote"):
        DcapQuoteVerifier().verify(evidence, report_data=bytes(64), now_s=FIRST_S, policy=POLICY)


@pytest.mark.parametrize(
    ("path", "version", "is_td15"),
    [
        ("dcap-qvl/tdx_quote", 4, False),
        ("dcap-qvl/tdx_quote_outdated", 5, True),
        ("go-tdx-guest/quote_v5_sample.dat", 5, True),
        ("go-tdx-guest/ccel/cos-113-tdx-quote.dat", 4, False),
    ],
)
def test_a_real_quote_reads_and_writes_back_but_for_its_padding(path, version, is_td15):
    raw = (FIXTURES / path).read_bytes()
    quote, auth = split_quote(raw)

    assert raw.rstrip(b"\0") == build_quote(quote, auth).rstrip(b"\0")
    assert (version, is_td15) == (quote.version, quote.mr_service_td is not None)


def test_the_real_report_data_stand_where_the_verifier_looks():
    quote = parse_quote((FIXTURES / "go-tdx-guest/ccel/cos-113-tdx-quote.dat").read_bytes())

    assert (FIXTURES / "go-tdx-guest/ccel/nonce.dat").read_bytes() == quote.report_data
