"""An enum comes back from bytes as its member, and no other text does."""

import pytest

from compute_bridge.model.errors import RecordError
from compute_bridge.model.resources import Capability, NetworkPolicy, Posture, Region, Resources
from compute_bridge.wire.codec import decode, dump, encode, load

CAPABILITY = Capability(Region("eu-1"), Posture.TDX, Resources(1000, 1024), (NetworkPolicy.EGRESS,))


def test_an_enum_comes_back_as_its_member():
    found = decode(encode(CAPABILITY), Capability, max_bytes=1024)

    assert found.posture is Posture.TDX
    assert found.networks[0] is NetworkPolicy.EGRESS


@pytest.mark.parametrize("change", [{"posture": "sgx"}, {"networks": ["internet"]}, {"posture": ""}])
def test_text_that_is_no_member_is_refused(change: dict[str, object]):
    raw = dump(load(encode(CAPABILITY), max_bytes=1024) | change)

    with pytest.raises(RecordError):
        decode(raw, Capability, max_bytes=1024)
