"""What does not answer at all costs seconds: each SDK is told how long it may wait for a connection."""

import pytest

from compute_bridge.testing.physics.dead import nobody_answers
from compute_bridge_gcp.sdk import Sdk, answer_of

MOST_S = 10


@pytest.mark.parametrize(
    "ask",
    [lambda sdk: sdk.instances(""), lambda sdk: sdk.skus(), lambda sdk: sdk.granted(())],
    ids=["sdk", "get", "post"],
)
def test_a_vendor_that_is_dead_costs_seconds(bare_world, ask):
    with nobody_answers() as waits, pytest.raises(Exception) as caught:
        ask(Sdk(bare_world.config, bare_world.key))
    answer = answer_of(caught.value)

    assert answer is not None
    assert answer.code == "Timeout"
    assert 0 < sum(waits) <= MOST_S
