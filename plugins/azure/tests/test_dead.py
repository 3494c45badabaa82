"""What does not answer at all costs seconds: the SDK is told how long it may wait for a connection."""

import pytest

from compute_bridge.testing.physics.dead import nobody_answers
from compute_bridge_azure.errors import SILENCE, answer_of
from compute_bridge_azure.sdk import Arm

MOST_S = 10


@pytest.fixture
def arm(bare):
    arm = Arm(bare.config, bare.tokens.secret, lambda headers: None)
    yield arm
    arm.close()


def waits_of(ask):
    """Return how long each connection is waited for, where none comes about."""
    with nobody_answers() as waits, pytest.raises(Exception) as caught:
        ask()
    answer = answer_of(caught.value)

    assert answer is not None
    assert answer.code == SILENCE
    return waits


def test_a_directory_that_is_dead_costs_seconds(arm):
    assert 0 < sum(waits_of(arm.machines)) <= MOST_S


def test_a_resource_manager_that_is_dead_costs_seconds(arm):
    # Its token is had by then, and the other client has its connection.
    arm.machines()

    assert 0 < sum(waits_of(arm.nics)) <= MOST_S


def test_a_price_list_that_is_dead_costs_seconds(arm):
    waits = waits_of(lambda: arm.prices("westeurope", "USD"))

    assert 0 < sum(waits) <= MOST_S
