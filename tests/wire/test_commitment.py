"""Commitments: what is opened later is what was promised, to the last bit."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.card import BootKeys, QuoteBinding
from compute_bridge.model.errors import EnvelopeError
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey, UniqueId, digest
from compute_bridge.model.manifest import ComputeManifest, ImageRef, SourceRef
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.model.resources import Requirements, Resources
from compute_bridge.model.units import Milliseconds, Tick
from compute_bridge.wire import codec
from compute_bridge.wire.commitment import (
    check_opening,
    envelope_commitment,
    image_hash,
    manifest_commitment,
    post_hash,
    pre_hash,
    report_data,
    request_commitments,
)
from compute_bridge.wire.signing import fingerprint

KEY = PublicKey(bytes([1]) * 32)
NEEDS = Requirements(Resources(1000, 512), Milliseconds(1000))
MANIFEST = ComputeManifest(SourceRef("hello", "1", "0123abc"), ImageRef("oci@sha256:" + "ab" * 32), NEEDS)
BODY = EnvelopeBody(
    request_key=KEY,
    manifest=MANIFEST,
    image_hash=bytes.fromhex("ab" * 32),
    manifest_salt=bytes([2]) * 32,
    envelope_salt=bytes([3]) * 32,
    sealing_key=SealingKey(bytes([1]) + bytes(32)),
    ssh_key="",
)
BINDING = QuoteBinding(
    BootKeys(KEY, SealingKey(bytes([1]) + bytes(32))),
    UniqueId(bytes([4]) * 32),
    UniqueId(bytes([5]) * 32),
    bytes([6]) * 32,
    Tick(7),
    Fingerprint(bytes([8]) * 32),
    "1.0",
)


def check(body: EnvelopeBody) -> None:
    """Check ``body`` against what BODY committed to."""
    manifest_commit, envelope_commit = request_commitments(BODY)
    check_opening(body, request_key=KEY, manifest_commit=manifest_commit, envelope_commit=envelope_commit)


def test_what_was_committed_to_opens():
    check(BODY)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "manifest": evolve(MANIFEST, image=ImageRef("oci@sha256:" + "cd" * 32)),
            "image_hash": bytes.fromhex("cd" * 32),
        },
        {"manifest": evolve(MANIFEST, source=SourceRef("hello", "2", "0123abc"))},
        {"manifest": evolve(MANIFEST, requirements=evolve(NEEDS, egress_gib=1))},
        {"image_hash": bytes(32)},
        {"manifest_salt": bytes(32)},
        {"envelope_salt": bytes(32)},
        {"sealing_key": SealingKey(bytes([1]) + bytes([9]) * 32)},
        {"ssh_key": "ssh-ed25519 AAAA"},
        {"request_key": PublicKey(bytes(32))},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_a_body_with_anything_exchanged_does_not_open(changes):
    with pytest.raises(EnvelopeError):
        check(evolve(BODY, **changes))


def test_an_image_hash_that_is_not_the_images_own_is_refused_though_it_was_committed_to():
    lying = evolve(BODY, image_hash=bytes(32))
    manifest_commit, envelope_commit = request_commitments(lying)
    with pytest.raises(EnvelopeError, match="image hash"):
        check_opening(lying, request_key=KEY, manifest_commit=manifest_commit, envelope_commit=envelope_commit)


def test_a_vm_name_promises_no_digest():
    assert bytes(32) == image_hash(evolve(MANIFEST, image=ImageRef("vm:host")))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_salt_hides_what_is_committed_to(one, other):
    same = one == other

    assert same == (
        manifest_commitment(one, MANIFEST, BODY.image_hash) == manifest_commitment(other, MANIFEST, BODY.image_hash)
    )
    assert same == (
        envelope_commitment(evolve(BODY, envelope_salt=one)) == envelope_commitment(evolve(BODY, envelope_salt=other))
    )


def test_the_commitments_are_those_that_are_documented():
    manifest_commit, envelope_commit = request_commitments(BODY)

    assert manifest_commit == digest(
        "compute-bridge/commit/manifest/v1", BODY.manifest_salt, pre_hash(MANIFEST), BODY.image_hash
    )
    assert envelope_commit == digest("compute-bridge/commit/envelope/v1", BODY.envelope_salt, codec.encode(BODY))


def test_the_pre_hash_is_the_manifests_fingerprint():
    assert fingerprint(MANIFEST) == pre_hash(MANIFEST)


def test_the_post_hash_tells_image_and_measurement_apart():
    before = pre_hash(MANIFEST)
    hashes = {
        post_hash(before, b"image", b"mrtd"),
        post_hash(before, b"imagemrtd"),
        post_hash(before, b"", b"imagemrtd"),
        post_hash(Fingerprint(bytes(32)), b"image", b"mrtd"),
    }

    assert 4 == len(hashes)


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": evolve(BINDING.keys, signing=PublicKey(bytes(32)))},
        {"keys": evolve(BINDING.keys, sealing=SealingKey(bytes([2]) + bytes(32)))},
        {"coalition": UniqueId(bytes(32))},
        {"module": UniqueId(bytes(32))},
        {"challenge": bytes(32)},
        {"challenge_tick": Tick(8)},
        {"config": Fingerprint(bytes(32))},
        {"software": "1.1"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_report_data_binds_every_field(changes):
    assert report_data(BINDING) != report_data(evolve(BINDING, **changes))


def test_report_data_fills_the_64_bytes_of_a_tdx_report():
    assert 64 == len(report_data(BINDING))
