"""Signed records: nobody else's, nowhere else's, and not one bit otherwise."""

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.errors import RecordError, SignatureError
from compute_bridge.model.ids import BandName, ProviderId, UniqueId
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reputation import Bond
from compute_bridge.model.resources import Posture, Region
from compute_bridge.model.units import Tick, UtcMs
from compute_bridge.wire import codec
from compute_bridge.wire.signing import (
    Domain,
    fingerprint,
    open_self_signed,
    open_signed,
    public_key,
    record_hash,
    sign,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
DOMAIN = Domain(UniqueId(bytes([3]) * 32), UniqueId(bytes([4]) * 32))
TICK = AlmanacTick(Tick(7), 1000, UtcMs(5), bytes(32), bytes(32))
SIGNED = sign(TICK, KEY, domain=DOMAIN)
PARTS = codec.load(SIGNED.raw, max_bytes=4096)


def opened(raw: bytes, domain: Domain = DOMAIN):
    return open_signed(raw, AlmanacTick, domain, by=public_key(KEY))


def repacked(*, at: int, to: object) -> bytes:
    return codec.dump([to if index == at else part for index, part in enumerate(PARTS)])


def test_a_signed_record_comes_back_with_its_hash_and_its_signer():
    found = opened(SIGNED.raw)

    assert (TICK, SIGNED.raw, (public_key(KEY),)) == (found.value, found.raw, found.signers)
    assert SIGNED.hash == found.hash == fingerprint(TICK) == record_hash(TICK)


def test_a_hash_does_not_depend_on_who_signed():
    assert SIGNED.hash == sign(TICK, OTHER, domain=DOMAIN).hash


def test_signing_is_deterministic():
    assert SIGNED.raw == sign(TICK, KEY, domain=DOMAIN).raw


@pytest.mark.parametrize("change", [{"coalition": UniqueId(bytes(32))}, {"module": UniqueId(bytes(32))}])
def test_a_record_of_another_coalition_or_module_is_refused(change):
    with pytest.raises(SignatureError):
        opened(SIGNED.raw, evolve(DOMAIN, **change))


def test_a_record_by_another_key_is_refused():
    with pytest.raises(SignatureError, match="must sign"):
        opened(sign(TICK, OTHER, domain=DOMAIN).raw)


def test_a_record_of_another_kind_is_refused():
    bond = sign(Bond(public_key(KEY), ProviderId(bytes(32)), Tick(1)), KEY, domain=DOMAIN)
    with pytest.raises(RecordError, match="expected almanac-tick"):
        opened(bond.raw)


@pytest.mark.parametrize(
    ("at", "to"),
    [
        (0, 2),
        (0, 0),
        (0, True),
        (1, "bond"),
        (1, "almanac-tick "),
        (2, 2),
        (2, 0),
        (3, codec.encode(evolve(TICK, tick=Tick(8)))),
        (3, b""),
        (3, "text"),
        (4, []),
        (4, None),
        (4, [[]]),
        (4, [PARTS[4][0][:2]]),
        (4, [[*PARTS[4][0], 1]]),
        (4, [[PARTS[4][0][0], "rsa", PARTS[4][0][2]]]),
        (4, [[PARTS[4][0][0][:31], "ed25519", PARTS[4][0][2]]]),
        (4, [[PARTS[4][0][0], "ed25519", PARTS[4][0][2][:63]]]),
        (4, [[PARTS[4][0][0], "ed25519", bytes(64)]]),
        (4, PARTS[4] * 17),
    ],
    ids=str,
)
def test_no_part_can_be_replaced(at, to):
    with pytest.raises(RecordError):
        opened(repacked(at=at, to=to))


@pytest.mark.parametrize("raw", [b"", b"\0", codec.dump(PARTS[:4]), codec.dump([*PARTS, 1]), codec.dump({"a": 1})])
def test_what_is_no_signed_record_is_refused(raw):
    with pytest.raises(RecordError):
        opened(raw)


def test_no_bit_can_be_flipped():
    for at in range(len(SIGNED.raw)):
        for bit in range(8):
            raw = SIGNED.raw[:at] + bytes([SIGNED.raw[at] ^ 1 << bit]) + SIGNED.raw[at + 1 :]
            with pytest.raises(RecordError):
                opened(raw)


@given(st.integers(0, len(SIGNED.raw) - 1))
def test_no_record_can_be_cut_short(length):
    with pytest.raises(RecordError):
        opened(SIGNED.raw[:length])


@given(st.binary(min_size=1, max_size=8))
def test_nothing_can_follow_a_record(tail):
    with pytest.raises(RecordError):
        opened(SIGNED.raw + tail)


@given(st.binary(max_size=300))
def test_no_bytes_pass_for_a_record(raw):
    with pytest.raises(RecordError):
        opened(raw)


def test_a_record_beyond_its_bound_is_refused_unread():
    with pytest.raises(RecordError, match="exceeds the limit"):
        opened(bytes(10**6))


def test_a_value_beyond_the_bound_of_its_kind_cannot_be_signed():
    rows = [RateRow(Region("r"), Posture.NONE, BandName(f"{number:063}"), UnitNanos()) for number in range(1024)]
    with pytest.raises(RecordError, match=r"rate-table of \d+ bytes exceeds the limit"):
        sign(RateTable("EUR", tuple(rows)), KEY, domain=DOMAIN)


def test_every_signature_must_verify_also_those_that_nobody_asked_for():
    marks = [PARTS[4][0], [public_key(OTHER), "ed25519", bytes(64)]]
    with pytest.raises(SignatureError):
        opened(repacked(at=4, to=marks))


def test_several_may_sign_and_each_counts():
    both = sign(TICK, KEY, OTHER, domain=DOMAIN)

    assert (public_key(KEY), public_key(OTHER)) == opened(both.raw).signers
    assert both.hash == open_signed(both.raw, AlmanacTick, DOMAIN, by=public_key(OTHER)).hash


def test_a_record_may_name_its_own_signer():
    bond = Bond(public_key(OTHER), ProviderId(bytes(32)), Tick(1))

    assert (
        bond == open_self_signed(sign(bond, OTHER, domain=DOMAIN).raw, Bond, DOMAIN, signer=lambda one: one.agent).value
    )


def test_a_record_that_names_another_signer_than_it_has_is_refused():
    bond = Bond(public_key(KEY), ProviderId(bytes(32)), Tick(1))
    with pytest.raises(SignatureError):
        open_self_signed(sign(bond, OTHER, domain=DOMAIN).raw, Bond, DOMAIN, signer=lambda one: one.agent)


def test_a_signature_is_checked_before_the_payload_is_decoded():
    forged = codec.dump([1, "almanac-tick", 1, b"\xff" * 20, PARTS[4]])
    with pytest.raises(SignatureError):
        opened(forged)


def test_a_signed_record_shows_no_bytes_in_its_repr():
    assert repr(SIGNED.raw)[2:12] not in repr(SIGNED)
