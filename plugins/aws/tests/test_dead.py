"""What does not answer at all costs seconds: each SDK is told how long it may wait for a connection."""

from collections.abc import Callable

import pytest

from compute_bridge_aws.sdk import Sdk, told_by
from compute_bridge_aws.testing.world import AwsWorld

MOST_S = 10


@pytest.fixture
def waits(monkeypatch):
    """Let no connection come about, and return how long each was waited for."""
    waits: list[float] = []

    def never(_address, timeout=None, *_more, **_options):
        waits.append(timeout)
        raise TimeoutError("nobody answers")

    monkeypatch.setattr("urllib3.util.connection.create_connection", never)
    return waits


def test_a_region_that_is_dead_costs_seconds(bare: AwsWorld, sdk: Callable[[AwsWorld], Sdk], waits: list[float]):
    with pytest.raises(Exception) as caught:
        sdk(bare).instances("eu-west-1", [])
    told = told_by(caught.value)

    assert told is not None
    assert told.code == "ConnectTimeoutError"
    assert 0 < sum(waits) <= MOST_S
