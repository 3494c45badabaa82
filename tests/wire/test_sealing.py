"""Sealing: RFC 9180 held against an independent key schedule, and every byte and field of a message bound."""

import pytest
from attrs import evolve
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.errors import EnvelopeError
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey
from compute_bridge.testing.hpke_by_hand import key_schedule, open_by_hand, public_of, seal_by_hand, shared_secret
from compute_bridge.wire import codec
from compute_bridge.wire.sealing import (
    BUCKETS,
    MLKEM768_X25519,
    X25519,
    SealContext,
    SealingSecret,
    seal,
    sealed_bucket,
    unseal,
)

SECRET = SealingSecret.from_seed(bytes(range(32)))
OTHER = SealingSecret.from_seed(bytes(range(1, 33)))
CONTEXT = SealContext("receipt", Fingerprint(bytes([1]) * 32), 3, PublicKey(bytes([2]) * 32), SECRET.public)
BODY = b"the body"
SEALED = seal(BODY, CONTEXT)

# --- RFC 9180, A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, base mode -----------

INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
SK_E = bytes.fromhex("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600")
PK_E = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
SK_R = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
PK_R = bytes.fromhex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
SHARED = bytes.fromhex("0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7")
KEY = bytes.fromhex("ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91")
BASE_NONCE = bytes.fromhex("5c4d98150661b848853b547f")
PLAINTEXT = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
AAD = bytes.fromhex("436f756e742d30")
CIPHERTEXT = bytes.fromhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")


def sealed_by_hand(padded: bytes, context: SealContext) -> bytes:
    """Seal as RFC 9180 says, with nothing of the library's HPKE."""
    return bytes([1, X25519]) + seal_by_hand(padded, context.recipient[1:], context.info(X25519), ephemeral=SK_E)


def test_the_independent_key_schedule_gives_the_vector_of_the_rfc():
    key, nonce = key_schedule(SHARED, INFO)

    assert (PK_E, PK_R) == (public_of(SK_E), public_of(SK_R))
    assert SHARED == shared_secret(SK_E, PK_R, enc=PK_E, recipient=PK_R)
    assert SHARED == shared_secret(SK_R, PK_E, enc=PK_E, recipient=PK_R)
    assert (KEY, BASE_NONCE) == (key, nonce)
    assert CIPHERTEXT == ChaCha20Poly1305(key).encrypt(nonce, PLAINTEXT, AAD)


def test_what_is_sealed_by_the_rfc_alone_opens_here():
    padded = (len(BODY).to_bytes(4, "big") + BODY).ljust(1024, b"\0")

    assert BODY == unseal(sealed_by_hand(padded, CONTEXT), SECRET, CONTEXT)


def test_what_is_sealed_here_opens_by_the_rfc_alone():
    padded = open_by_hand(SEALED[2:], bytes(range(32)), CONTEXT.info(X25519))

    assert BODY == padded[4 : 4 + len(BODY)]


# --- what a message is bound to -----------------------------------------------------------------------


@given(st.binary(max_size=BUCKETS[-1] - 4))
def test_a_body_comes_back_as_it_was(body: bytes):
    assert body == unseal(seal(body, CONTEXT), SECRET, CONTEXT)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "envelope"},
        {"subject": Fingerprint(bytes(32))},
        {"sequence": 4},
        {"sender": PublicKey(bytes(32))},
        {"recipient": OTHER.public},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_message_opens_for_its_own_context_alone(changes):
    with pytest.raises(EnvelopeError):
        unseal(SEALED, SECRET, evolve(CONTEXT, **changes))


def test_a_message_opens_for_its_own_recipient_alone():
    with pytest.raises(EnvelopeError):
        unseal(SEALED, OTHER, evolve(CONTEXT, recipient=OTHER.public))


def test_no_byte_can_be_flipped():
    for at in range(len(SEALED)):
        for bit in (0x01, 0x80):
            flipped = SEALED[:at] + bytes([SEALED[at] ^ bit]) + SEALED[at + 1 :]
            with pytest.raises(EnvelopeError):
                unseal(flipped, SECRET, CONTEXT)


@pytest.mark.parametrize("length", [0, 1, 2, 33, 34, 49, 50, len(SEALED) - 1])
def test_no_message_can_be_cut_short(length):
    with pytest.raises(EnvelopeError):
        unseal(SEALED[:length], SECRET, CONTEXT)


def test_nothing_can_follow_a_message():
    with pytest.raises(EnvelopeError):
        unseal(SEALED + b"\0", SECRET, CONTEXT)


def test_a_message_larger_than_any_bucket_is_refused_unread():
    with pytest.raises(EnvelopeError, match="exceeds"):
        unseal(SEALED[:2] + bytes(10**6), SECRET, CONTEXT)


@pytest.mark.parametrize("suite", [0, MLKEM768_X25519, 3, 255])
def test_the_suite_cannot_be_swapped(suite):
    with pytest.raises(EnvelopeError):
        unseal(bytes([1, suite]) + SEALED[2:], SECRET, CONTEXT)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_not_opened(version):
    with pytest.raises(EnvelopeError):
        unseal(bytes([version]) + SEALED[1:], SECRET, CONTEXT)


@pytest.mark.parametrize(
    "padded",
    [
        b"".ljust(1023, b"\0"),
        (8).to_bytes(4, "big").ljust(1025, b"\0"),
        (1021).to_bytes(4, "big").ljust(1024, b"\0"),
        (2**32 - 1).to_bytes(4, "big").ljust(1024, b"\0"),
        (0).to_bytes(4, "big").ljust(1023, b"\0") + b"\1",
        b"",
    ],
    ids=["below a bucket", "above a bucket", "longer than it is", "absurdly long", "with a tail", "empty"],
)
def test_padding_has_one_form(padded):
    with pytest.raises(EnvelopeError, match="padded"):
        unseal(sealed_by_hand(padded, CONTEXT), SECRET, CONTEXT)


def test_two_seals_of_one_body_share_no_bytes_beyond_the_head():
    first, second = seal(BODY, CONTEXT), seal(BODY, CONTEXT)

    assert first[2:34] != second[2:34]
    assert first[34:] != second[34:]


# --- what its length tells ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "bucket"),
    [(0, 1024), (10, 1024), (1020, 1024), (1021, 2048), (2044, 2048), (8188, 8192), (8189, 16384), (16380, 16384)],
)
def test_a_length_shows_as_its_bucket_alone(length, bucket):
    sealed = seal(bytes(length), CONTEXT)

    assert (bucket, bucket + 50) == (sealed_bucket(sealed), len(sealed))


def test_a_body_beyond_the_largest_bucket_is_refused():
    with pytest.raises(EnvelopeError, match="largest bucket"):
        seal(bytes(16381), CONTEXT)


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        bytes([X25519]) + bytes(32),
        bytes([0]) + SECRET.public[1:],
        bytes([9]) + SECRET.public[1:],
        SECRET.public + b"\0",
        bytes([MLKEM768_X25519]) + SECRET.public[1:],
    ],
    ids=["all zero", "no suite", "unknown suite", "too long", "the other suite"],
)
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(EnvelopeError):
        seal(BODY, evolve(CONTEXT, recipient=SealingKey(key)))


def test_a_low_order_point_seals_nothing():
    low_order = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
    with pytest.raises(EnvelopeError):
        seal(BODY, evolve(CONTEXT, recipient=SealingKey(bytes([X25519]) + low_order)))


def test_a_message_with_a_low_order_point_does_not_open():
    with pytest.raises(EnvelopeError):
        unseal(SEALED[:2] + bytes(32) + SEALED[34:], SECRET, CONTEXT)


@pytest.mark.parametrize(("suite", "length"), [(X25519, 31), (X25519, 96), (MLKEM768_X25519, 32), (0, 32), (3, 32)])
def test_a_seed_fits_its_suite(suite, length):
    with pytest.raises(EnvelopeError):
        SealingSecret.from_seed(bytes(length), suite=suite)


def test_a_seed_makes_the_same_key_every_time():
    assert SECRET.public == SealingSecret.from_seed(bytes(range(32))).public


def test_no_private_key_shows_in_a_repr():
    assert "private" not in repr(SECRET)
    assert repr(bytes(range(32)))[2:-1] not in repr(SECRET)


def test_info_is_the_suite_and_the_context_unambiguously():
    raw = CONTEXT.info(X25519)

    assert raw.startswith(b"compute-bridge/seal/v1\0")
    assert [1, 1, "receipt", bytes([1]) * 32, 3, bytes([2]) * 32, bytes(SECRET.public)] == codec.load(
        raw.removeprefix(b"compute-bridge/seal/v1\0"), max_bytes=1024
    )


# --- suite 2 ------------------------------------------------------------------------------------------


def has_mlkem() -> bool:
    try:
        MLKEM768PrivateKey.from_seed_bytes(bytes(64))
    except UnsupportedAlgorithm:
        return False
    return True


def test_the_hybrid_suite_works_or_says_that_this_build_lacks_it():
    if not has_mlkem():
        with pytest.raises(EnvelopeError, match="ML-KEM"):
            SealingSecret.from_seed(bytes(96), suite=MLKEM768_X25519)
        return
    hybrid = SealingSecret.from_seed(bytes(range(96)), suite=MLKEM768_X25519)
    context = evolve(CONTEXT, recipient=hybrid.public)
    sealed = seal(BODY, context)
    crossed = bytes([1, X25519]) + sealed[2:]

    assert BODY == unseal(sealed, hybrid, context)
    assert (1 + 1184 + 32, 1024 + 2 + 1136) == (len(hybrid.public), len(sealed))
    with pytest.raises(EnvelopeError):
        unseal(crossed, SECRET, context)
    for at in (2, 600, 1121, 1130, len(sealed) - 1):
        with pytest.raises(EnvelopeError):
            unseal(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], hybrid, context)
