"""What this plugin registers: the routing policies ``first-fit`` and ``cheapest``."""

from compute_bridge.api import RoutingPolicyKind, hookimpl
from compute_bridge_routing.policies import Cheapest, CheapestConfig, FirstFit, FirstFitConfig

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_routing_policies() -> list[RoutingPolicyKind]:
    """Return both policies."""
    return [
        RoutingPolicyKind("first-fit", FirstFitConfig, FirstFit),
        RoutingPolicyKind("cheapest", CheapestConfig, Cheapest),
    ]
