"""What the bridge's principal may do, no more: the role definitions, each operation with its actions."""

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from shlex import quote
from typing import Any

from compute_bridge.model.resources import NetworkPolicy
from compute_bridge_azure.walls import wall_rules

_VM = "Microsoft.Compute/virtualMachines"
_DISK = "Microsoft.Compute/disks"
_NIC = "Microsoft.Network/networkInterfaces"
_ADDRESS = "Microsoft.Network/publicIPAddresses"
_GROUP = "Microsoft.Network/networkSecurityGroups"
_SUBNET = "Microsoft.Network/virtualNetworks/subnets"
_PERMISSIONS = "Microsoft.Authorization/permissions/read"
_METRICS = "metrics"


class Reach(StrEnum):
    """Where a role is assigned."""

    GROUP = "resource group"
    NETWORK = "network"
    SUBSCRIPTION = "subscription"


OPERATIONS: Mapping[str, Mapping[Reach, tuple[str, ...]]] = {
    "identity": {},
    "prices": {},
    "close": {},
    "subscription": {Reach.SUBSCRIPTION: ("Microsoft.Resources/subscriptions/read",)},
    "permissions": {Reach.SUBSCRIPTION: (_PERMISSIONS,), Reach.GROUP: (_PERMISSIONS,)},
    "create_machine": {
        Reach.GROUP: (
            f"{_VM}/write",
            f"{_DISK}/write",
            f"{_NIC}/write",
            f"{_NIC}/join/action",
            f"{_ADDRESS}/write",
            f"{_ADDRESS}/join/action",
        ),
        Reach.NETWORK: (f"{_SUBNET}/join/action", f"{_GROUP}/join/action"),
    },
    "delete_machine": {Reach.GROUP: (f"{_VM}/delete",)},
    "delete_nic": {Reach.GROUP: (f"{_NIC}/delete",)},
    "delete_address": {Reach.GROUP: (f"{_ADDRESS}/delete",)},
    "delete_disk": {Reach.GROUP: (f"{_DISK}/delete",)},
    "statuses": {Reach.SUBSCRIPTION: (f"{_VM}/read",)},
    "machines": {Reach.GROUP: (f"{_VM}/read",)},
    "nics": {Reach.GROUP: (f"{_NIC}/read",)},
    "addresses": {Reach.GROUP: (f"{_ADDRESS}/read",)},
    "disks": {Reach.GROUP: (f"{_DISK}/read",)},
    _METRICS: {Reach.GROUP: ("Microsoft.Insights/metrics/read",)},
    "skus": {Reach.SUBSCRIPTION: ("Microsoft.Compute/skus/read",)},
    "usages": {Reach.SUBSCRIPTION: ("Microsoft.Compute/locations/usages/read",)},
    "image": {
        Reach.SUBSCRIPTION: (
            "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read",
            # What an image of a gallery can do its definition tells, where it is its version.
            "Microsoft.Compute/galleries/images/read",
            "Microsoft.Compute/galleries/images/versions/read",
            "Microsoft.Compute/images/read",
        )
    },
    "security_group": {Reach.NETWORK: (f"{_GROUP}/read",)},
    "subnet": {Reach.NETWORK: (f"{_SUBNET}/read",)},
}
"""Each call of the slice of the SDK, and what it takes; a call that asks for no token takes nothing."""


def actions(reach: Reach, *, metrics: bool) -> list[str]:
    """Return what a role takes at one place, in order; with ``metrics`` also what a table with them asks."""
    asked = [needs for name, needs in OPERATIONS.items() if metrics or name != _METRICS]
    return sorted({action for needs in asked for action in needs.get(reach, ())})


def document(
    subscription: str, group: str, network_groups: Iterable[str], port: int, *, metrics: bool
) -> dict[str, Any]:
    """Return three role definitions and what a security group must hold, to be printed as JSON."""
    base = f"/subscriptions/{subscription}"
    scopes = {
        Reach.GROUP: [f"{base}/resourceGroups/{group}"],
        Reach.NETWORK: [f"{base}/resourceGroups/{name}" for name in sorted(set(network_groups) or {group})],
        Reach.SUBSCRIPTION: [base],
    }
    return {
        "roles": [_role(reach, scopes[reach], metrics=metrics) for reach in Reach],
        "securityRules": {policy.value: wall_rules(policy, port) for policy in NetworkPolicy},
    }


def commands(roles: Iterable[Mapping[str, Any]], principal: str) -> Iterator[str]:
    """Yield the lines for a shell that make each role, then assign each at every place that it is for."""
    roles = [*roles]
    for role in roles:
        yield f"az role definition create --role-definition {quote(json.dumps(role))}"
    for role in roles:
        for scope in role["AssignableScopes"]:
            yield (
                f"az role assignment create --assignee-object-id {quote(principal)} "
                "--assignee-principal-type ServicePrincipal "
                f"--role {quote(role['Name'])} --scope {quote(scope)}"
            )


def _role(reach: Reach, scopes: list[str], *, metrics: bool) -> dict[str, Any]:
    return {
        "Name": f"compute-bridge {reach}",
        "IsCustom": True,
        "Description": f"What a compute-bridge needs in its {reach}, and no more.",
        "Actions": actions(reach, metrics=metrics),
        "NotActions": [],
        "DataActions": [],
        "NotDataActions": [],
        "AssignableScopes": scopes,
    }
