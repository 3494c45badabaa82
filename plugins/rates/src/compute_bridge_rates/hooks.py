"""What this plugin registers: the rate policies ``fixed`` and ``cost-plus``."""

from compute_bridge.api import RatePolicyKind, hookimpl
from compute_bridge_rates.cost_plus import CostPlus, CostPlusConfig
from compute_bridge_rates.fixed import Fixed, FixedConfig

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_rate_policies() -> list[RatePolicyKind]:
    """Return both policies."""
    return [
        RatePolicyKind("fixed", FixedConfig, Fixed),
        RatePolicyKind("cost-plus", CostPlusConfig, CostPlus),
    ]
