"""What this plugin registers: the clearing rule ``lowest-rate``."""

from compute_bridge.api import ClearingRuleKind, hookimpl
from compute_bridge_market.rule import LowestRate, LowestRateConfig

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_clearing_rules() -> list[ClearingRuleKind]:
    """Return the one clearing rule in the box."""
    return [ClearingRuleKind("lowest-rate", LowestRateConfig, lambda _config: LowestRate())]
