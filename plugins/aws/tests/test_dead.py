"""What does not answer at all costs seconds: each SDK is told how long it may wait for a connection."""

from collections.abc import Callable

import pytest

from compute_bridge.testing.physics.dead import nobody_answers
from compute_bridge_aws.sdk import Sdk, told_by
from compute_bridge_aws.testing.world import AwsWorld

MOST_S = 10


def test_a_region_that_is_dead_costs_seconds(bare: AwsWorld, sdk: Callable[[AwsWorld], Sdk]):
    with nobody_answers() as waits, pytest.raises(Exception) as caught:
        sdk(bare).instances("eu-west-1", [])
    told = told_by(caught.value)

    assert told is not None
    assert told.code == "ConnectTimeoutError"
    assert 0 < sum(waits) <= MOST_S
