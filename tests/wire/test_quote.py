import struct

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute_bridge.model.errors import RecordError
from compute_bridge.model.quote import MAX_QUOTE_BYTES, QuoteAuth, TdxQuote
from compute_bridge.wire.quote import build_quote, parse_quote, quote_hash, quote_identity, split_quote


def octets(size):
    return st.binary(min_size=size, max_size=size)


REGISTER = octets(48)
TD10 = st.builds(
    TdxQuote,
    version=st.sampled_from([4, 5]),
    qe_svn=st.integers(0, 0xFFFF),
    pce_svn=st.integers(0, 0xFFFF),
    qe_vendor_id=octets(16),
    user_data=octets(20),
    tee_tcb_svn=octets(16),
    mr_seam=REGISTER,
    mr_signer_seam=REGISTER,
    seam_attributes=octets(8),
    td_attributes=octets(8),
    xfam=octets(8),
    mr_td=REGISTER,
    mr_config_id=REGISTER,
    mr_owner=REGISTER,
    mr_owner_config=REGISTER,
    rtmrs=st.tuples(REGISTER, REGISTER, REGISTER, REGISTER),
    report_data=octets(64),
)
TD15 = st.builds(
    lambda quote, svn, service: attrs.evolve(quote, version=5, tee_tcb_svn2=svn, mr_service_td=service),
    TD10,
    octets(16),
    REGISTER,
)
AUTH = st.builds(
    QuoteAuth,
    signature=octets(64),
    attestation_key=octets(64),
    qe_report=octets(384),
    qe_report_signature=octets(64),
    qe_auth_data=st.binary(max_size=64),
    pck_chain=st.binary(min_size=1, max_size=200),
)


def numbered(version=4, **changes):
    """Return a quote whose every field holds bytes of its own."""
    fields = {
        "qe_vendor_id": bytes([1] * 16),
        "user_data": bytes([2] * 20),
        "tee_tcb_svn": bytes([3] * 16),
        "mr_seam": bytes([4] * 48),
        "mr_signer_seam": bytes([5] * 48),
        "seam_attributes": bytes([6] * 8),
        "td_attributes": bytes([7] * 8),
        "xfam": bytes([8] * 8),
        "mr_td": bytes([9] * 48),
        "mr_config_id": bytes([10] * 48),
        "mr_owner": bytes([11] * 48),
        "mr_owner_config": bytes([12] * 48),
        "rtmrs": tuple(bytes([13 + index] * 48) for index in range(4)),
        "report_data": bytes([17] * 64),
    }
    return TdxQuote(version=version, **(fields | changes))


AUTH_1 = QuoteAuth(
    signature=bytes([20] * 64),
    attestation_key=bytes([21] * 64),
    qe_report=bytes([22] * 384),
    qe_report_signature=bytes([23] * 64),
    qe_auth_data=bytes([24] * 32),
    pck_chain=b"chain",
)
RAW = build_quote(numbered(), AUTH_1)
TD15_QUOTE = numbered(5, tee_tcb_svn2=bytes([18] * 16), mr_service_td=bytes([19] * 48))


def at(offset, replacement, raw=RAW):
    return raw[:offset] + replacement + raw[offset + len(replacement) :]


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [
        (12, 16, 1),
        (28, 20, 2),
        (48, 16, 3),
        (64, 48, 4),
        (112, 48, 5),
        (160, 8, 6),
        (168, 8, 7),
        (176, 8, 8),
        (184, 48, 9),
        (232, 48, 10),
        (280, 48, 11),
        (328, 48, 12),
        (376, 48, 13),
        (424, 48, 14),
        (472, 48, 15),
        (520, 48, 16),
        (568, 64, 17),
    ],
)
def test_a_version_4_field_stands_at_its_published_offset(offset, size, value):
    assert bytes([value] * size) == RAW[offset : offset + size]


def test_the_header_says_version_key_type_and_tee():
    assert (4, 2, 0x81) == struct.unpack_from("<HHI", RAW)


def test_a_version_5_body_is_led_by_its_type_and_size():
    assert (3, 648) == struct.unpack_from("<HI", build_quote(TD15_QUOTE, AUTH_1), 48)


def test_the_signature_data_follow_the_body_with_their_size():
    assert len(RAW) - 636 == struct.unpack_from("<I", RAW, 632)[0]


@given(quote=TD10 | TD15, auth=AUTH, padding=st.integers(0, 80))
@settings(max_examples=100)
def test_a_quote_reads_back_as_it_was_written(quote, auth, padding):
    assert (quote, auth) == split_quote(build_quote(quote, auth) + bytes(padding))


@pytest.mark.parametrize("quote", [numbered(), numbered(5), TD15_QUOTE], ids=["v4", "v5-td10", "v5-td15"])
def test_every_truncation_is_refused(quote):
    raw = build_quote(quote, AUTH_1)
    for size in range(len(raw)):
        with pytest.raises(RecordError):
            parse_quote(raw[:size])


@given(raw=st.binary(max_size=1500))
def test_arbitrary_bytes_are_refused_with_a_record_error(raw):
    with pytest.raises(RecordError):
        parse_quote(raw)


@given(offset=st.integers(0, len(RAW) - 1), mask=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_read_as_itself(offset, mask):
    raw = at(offset, bytes([RAW[offset] ^ mask]))
    try:
        quote, auth = split_quote(raw)
    except RecordError:
        return

    assert raw == build_quote(quote, auth)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (bytes(MAX_QUOTE_BYTES + 1), "more than 16384"),
        (at(0, b"\x03"), "version 3"),
        (at(2, b"\x03"), "attestation key type 3"),
        (at(4, b"\x00"), "TEE type 0x0 is not TDX"),
        (RAW + b"\0\0x", "other than zero padding"),
        (at(632, struct.pack("<I", 0xFFFF_FFFF)), "signature data needs 4294967295 bytes"),
        (at(632, struct.pack("<I", 64)) + bytes(64), "attestation key needs 64 bytes"),
        (at(764, b"\x03"), "QE report certification is of type 3, not 6"),
        (at(766, struct.pack("<I", 10)), "empty or something follows"),
        (at(1218, struct.pack("<H", 2000)), "QE authentication data of 2000 bytes"),
        (at(1252, b"\x03"), "PCK certificate chain is of type 3, not 5"),
        (at(1254, struct.pack("<I", 4)), "empty or something follows"),
        (at(48, struct.pack("<HI", 1, 384), build_quote(TD15_QUOTE, AUTH_1)), "body type 1"),
        (at(48, struct.pack("<HI", 4, 648), build_quote(TD15_QUOTE, AUTH_1)), "body type 4"),
        (at(48, struct.pack("<HI", 2, 648), build_quote(TD15_QUOTE, AUTH_1)), "must have 584 bytes, not 648"),
    ],
)
def test_a_broken_quote_is_refused_naming_the_part(raw, complaint):
    with pytest.raises(RecordError, match=complaint):
        parse_quote(raw)


def test_the_identity_is_what_stands_before_the_signature_data():
    assert RAW[:632] == quote_identity(numbered())


def test_the_hash_ignores_all_that_is_malleable():
    other = attrs.evolve(AUTH_1, signature=bytes(64), qe_auth_data=b"", pck_chain=b"another")

    assert quote_hash(parse_quote(RAW)) == quote_hash(parse_quote(build_quote(numbered(), other) + bytes(70)))


@given(offset=st.integers(8, 631), mask=st.integers(1, 255))
def test_the_hash_sees_every_signed_byte(offset, mask):
    flipped = at(offset, bytes([RAW[offset] ^ mask]))

    assert quote_hash(numbered()) != quote_hash(parse_quote(flipped))


def test_a_version_4_and_a_version_5_quote_of_one_report_differ():
    assert quote_hash(numbered(4)) != quote_hash(numbered(5))
