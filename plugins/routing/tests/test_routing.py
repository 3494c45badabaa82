import pytest

from compute_bridge.api import Preference, RoutingPolicy
from compute_bridge.testing.policies import RoutingPolicyConformance
from compute_bridge_routing.hooks import COMPUTE_BRIDGE_API, register_routing_policies
from compute_bridge_routing.policies import Cheapest, CheapestConfig, FirstFit, FirstFitConfig


class TestFirstFit(RoutingPolicyConformance):
    @pytest.fixture
    def policy(self) -> RoutingPolicy:
        return FirstFit(FirstFitConfig())


class TestCheapest(RoutingPolicyConformance):
    @pytest.fixture
    def policy(self) -> RoutingPolicy:
        return Cheapest(CheapestConfig())


def test_both_policies_are_registered():
    kinds = register_routing_policies()

    assert (1, ["first-fit", "cheapest"]) == (COMPUTE_BRIDGE_API, [kind.kind for kind in kinds])


def test_each_policy_draws_in_the_order_that_its_name_says():
    drawn = {kind.kind: kind.open(kind.config()).preference for kind in register_routing_policies()}

    assert {"first-fit": Preference.BOOT_ORDER, "cheapest": Preference.CHEAPEST} == drawn
