"""What this plugin registers: the routing policies ``first-fit``, ``cheapest`` and ``availability-first``."""

from compute_bridge.api import RoutingPolicyKind, hookimpl
from compute_bridge_routing.policies import (
    AvailabilityFirst,
    AvailabilityFirstConfig,
    Cheapest,
    CheapestConfig,
    FirstFit,
    FirstFitConfig,
)

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_routing_policies() -> list[RoutingPolicyKind]:
    """Return the policies."""
    return [
        RoutingPolicyKind("first-fit", FirstFitConfig, FirstFit),
        RoutingPolicyKind("cheapest", CheapestConfig, Cheapest),
        RoutingPolicyKind("availability-first", AvailabilityFirstConfig, AvailabilityFirst),
    ]
