import pytest

from compute_bridge.api import Candidate, Offer, Preference, RoutingPolicy
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import MicrosPerHour, UtcMs
from compute_bridge.testing.policies import RoutingPolicyConformance
from compute_bridge_routing.hooks import COMPUTE_BRIDGE_API, register_routing_policies
from compute_bridge_routing.policies import (
    AvailabilityFirst,
    AvailabilityFirstConfig,
    Cheapest,
    CheapestConfig,
    FirstFit,
    FirstFitConfig,
)


class TestFirstFit(RoutingPolicyConformance):
    @pytest.fixture
    def policy(self) -> RoutingPolicy:
        return FirstFit(FirstFitConfig())


class TestCheapest(RoutingPolicyConformance):
    @pytest.fixture
    def policy(self) -> RoutingPolicy:
        return Cheapest(CheapestConfig())


class TestAvailabilityFirst(RoutingPolicyConformance):
    @pytest.fixture
    def policy(self) -> RoutingPolicy:
        return AvailabilityFirst(AvailabilityFirstConfig())


def test_the_policies_are_registered():
    kinds = register_routing_policies()

    assert (1, ["first-fit", "cheapest", "availability-first"]) == (COMPUTE_BRIDGE_API, [kind.kind for kind in kinds])


def test_each_policy_draws_in_the_order_that_its_name_says():
    drawn = {kind.kind: kind.open(kind.config()).preference for kind in register_routing_policies()}

    assert {
        "first-fit": Preference.BOOT_ORDER,
        "cheapest": Preference.CHEAPEST,
        "availability-first": Preference.CHEAPEST,
    } == drawn


def candidate(name, *, benched=0, spot=False):
    offer = Offer(
        id=OfferId(name),
        backend=BackendName("cloud"),
        region=Region("eu"),
        zone=Zone("a"),
        shape="small",
        resources=Resources(1000, 1024),
        posture=Posture.NONE,
        networks=(NetworkPolicy.ISOLATED,),
        cost=CostBasis("EUR", UnitNanos(), UtcMs(1), "test"),
        spot=spot,
    )
    return Candidate(offer, MicrosPerHour(1), 0, benched)


def test_availability_first_puts_last_what_was_benched_most_and_keeps_the_order_of_cost_otherwise():
    given = (
        candidate("cheap", benched=2),
        candidate("spot", spot=True),
        candidate("fair"),
        candidate("once", benched=1),
        candidate("dear"),
    )
    ranked = AvailabilityFirst(AvailabilityFirstConfig()).rank(given)

    assert ["fair", "dear", "spot", "once", "cheap"] == [one.offer.id for one in ranked]
