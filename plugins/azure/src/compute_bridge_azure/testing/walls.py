"""Security rules as an operator writes them who has read what the policy command prints."""

from typing import Any

from compute_bridge.model.resources import NetworkPolicy
from compute_bridge_azure.walls import wall_rules


def wall(policy: NetworkPolicy, port: int) -> list[dict[str, Any]]:
    """Return the rules of a security group that holds a guest to ``policy``."""
    return [dict(rule["properties"]) for rule in wall_rules(policy, port)]
