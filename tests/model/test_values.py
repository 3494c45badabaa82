"""Values that rule out what makes no sense, the moment they are made."""

import pytest
from attrs import evolve, exceptions, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.checks import label, octets, text, whole
from compute_bridge.model.control import ControlAction, LeaseControl
from compute_bridge.model.ids import (
    GrantId,
    ProviderId,
    PublicKey,
    RequestId,
    UniqueId,
    derive,
    digest,
    grant_id,
    provider_id,
    short,
)
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import ComputeLog, Outcome, UsageMetrics

ID = bytes(32)
LOG = ComputeLog(
    GrantId(ID), ProviderId(ID), 1, 0, Outcome.SERVED, Reason.EXITED, UtcMs(1), UtcMs(2), Milliseconds(1),
    UsageMetrics(), b"", development_attestation=True,
)  # fmt: skip


@frozen
class Checked:
    number: int = field(default=1, validator=whole(1, 5))
    raw: bytes = field(default=b"ab", validator=octets(2, 3))
    word: str = field(default="ab", validator=text(1, 3))
    name: str = field(default="a-b.c", validator=label)


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 0},
        {"number": 6},
        {"number": 1.0},
        {"number": True},
        {"number": "1"},
        {"raw": b"a"},
        {"raw": b"abcd"},
        {"raw": "ab"},
        {"raw": bytearray(b"ab")},
        {"word": ""},
        {"word": "abcd"},
        {"word": "a\n"},
        {"word": "a\u202e"},
        {"word": b"ab"},
        {"name": ""},
        {"name": "-a"},
        {"name": "a-"},
        {"name": "A"},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "a" * 64},
        {"name": 5},
    ],
    ids=str,
)
def test_a_wrong_field_is_named(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        Checked(**changes)


def test_a_value_cannot_be_changed():
    with pytest.raises(exceptions.FrozenInstanceError):
        LOG.epoch = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes", [{"ended_at": UtcMs(0)}, {"outcome": Outcome.REFUSED}, {"outcome": Outcome.NO_SHOW}]
)
def test_a_log_that_makes_no_sense_cannot_be_made(changes):
    with pytest.raises(ValueError, match=r"ended_at|billable"):
        evolve(LOG, **changes)


@pytest.mark.parametrize(
    ("action", "extend_ms"), [(ControlAction.EXTEND, 0), (ControlAction.RELEASE, 1), (ControlAction.DISPUTE, 1)]
)
def test_only_an_extension_extends(action, extend_ms):
    with pytest.raises(ValueError, match="extend_ms"):
        LeaseControl(GrantId(ID), PublicKey(ID), 1, action, Milliseconds(extend_ms), "")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "alpine",
        "oci@sha256:" + "a" * 63,
        "oci@sha256:" + "A" * 64,
        "oci@sha512:" + "a" * 64,
        "oci@sha256:" + "a" * 64 + "\n",
        "vm:",
        "vm:Host",
        "vm:../host",
        "vm:a b",
    ],
)
def test_an_image_has_one_of_two_forms(name):
    with pytest.raises(ValueError, match="image"):
        ImageRef(name)


def test_a_vm_name_has_no_digest():
    with pytest.raises(ValueError, match="no digest"):
        _ = ImageRef("vm:host").digest_hex


# --- ids ------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_no_two_inputs_read_alike(one, other):
    assert (one == other) == (digest("context", *one) == digest("context", *other))


def test_a_context_is_no_part():
    assert digest("a", b"b") != digest("ab") != digest("", b"a", b"b")


def test_an_id_follows_from_what_is_declared():
    root = UniqueId(ID)

    assert derive(derive(root, "module"), "compute") == derive(derive(root, "module"), "compute")
    assert derive(root, "a") != derive(root, "b") != derive(UniqueId(bytes([1]) * 32), "b")


def test_a_provider_is_another_one_in_another_coalition_and_under_another_root():
    first = provider_id(UniqueId(ID), PublicKey(ID))

    assert first != provider_id(UniqueId(bytes([1]) * 32), PublicKey(ID))
    assert first != provider_id(UniqueId(ID), PublicKey(bytes([1]) * 32))


def test_a_request_has_another_grant_in_another_round_and_market():
    first = grant_id(RequestId(ID), UniqueId(ID), 1)

    assert first != grant_id(RequestId(ID), UniqueId(ID), 2)
    assert first != grant_id(RequestId(ID), UniqueId(bytes([1]) * 32), 1)
    assert first != grant_id(RequestId(bytes([1]) * 32), UniqueId(ID), 1)


def test_people_see_the_first_twelve_digits():
    assert "000102030405" == short(bytes(range(32)))
