"""What a project must grant and let through: the permissions of a role, and the rules of the network's firewall.

Source of the permissions: the vendor's IAM reference, by method of the API.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, ip_network
from typing import Any, Final

from attrs import frozen

from compute_bridge.model.resources import NetworkPolicy
from compute_bridge_gcp.body import NETWORK_TAGS
from compute_bridge_gcp.facts import Rule

CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    "identity": (),
    "insert": (
        "compute.disks.create",
        "compute.disks.setLabels",
        "compute.images.useReadOnly",
        "compute.instances.create",
        "compute.instances.setLabels",
        "compute.instances.setMetadata",
        "compute.instances.setTags",
        "compute.subnetworks.use",
        "compute.subnetworks.useExternalIp",
    ),
    "delete": ("compute.instances.delete",),
    "instance": ("compute.instances.get",),
    "instances": ("compute.instances.list",),
    "operation": ("compute.zoneOperations.get",),
    "operations": ("compute.zoneOperations.list",),
    "regions": ("compute.regions.list",),
    "zones": ("compute.zones.list",),
    "shapes": ("compute.machineTypes.list",),
    # The price list needs no permission, only that the API is enabled; whoever asks may ask what is granted to him.
    "skus": (),
    "time_series": ("monitoring.timeSeries.list",),
    "granted": (),
    "image": ("compute.images.get", "compute.images.getFromFamily"),
    "subnetwork_network": ("compute.subnetworks.get",),
    "rules": ("compute.firewalls.list",),
    "vendor_ms": ("compute.projects.get",),
}
"""The permissions that each call of our slice of the SDK needs in the project."""

METRICS: Final = CALLS["time_series"]
"""Those of them that only a table with ``metrics = true`` needs."""

PERMISSIONS: Final = tuple(sorted({permission for needed in CALLS.values() for permission in needed} - {*METRICS}))
"""All others, once."""

ROLE_ID: Final = "computeBridge"
_FIRST, _SECOND = 900, 1000


@frozen
class Wanted:
    """One rule that the network needs: what it does and why."""

    name: str
    is_ingress: bool
    allows: bool
    priority: int
    what: str
    ranges: tuple[str, ...]
    source_tags: tuple[str, ...]
    target_tags: tuple[str, ...]
    why: str


def wanted_rules(policies: Iterable[NetworkPolicy], *, ssh_port: int) -> tuple[Wanted, ...]:
    """Return the rules that hold guests to the policies on sale; a network lets nothing in and everything out else."""
    tags = tuple(sorted(NETWORK_TAGS[policy] for policy in policies))
    rules = [
        Wanted("cb-allow-ssh", True, True, _SECOND, f"tcp:{ssh_port}", ("0.0.0.0/0",), (), tags, "requesters log in"),
        Wanted("cb-deny-neighbours", True, False, _FIRST, "all", (), tags, tags, "guests do not reach each other"),
    ]
    if NetworkPolicy.ISOLATED in policies:
        isolated = (NETWORK_TAGS[NetworkPolicy.ISOLATED],)
        why = "an isolated guest opens no connection"
        rules.append(Wanted("cb-deny-egress", False, False, _FIRST, "all", ("0.0.0.0/0",), (), isolated, why))
    return tuple(rules)


def meets(rule: Rule, wanted: Wanted) -> bool:
    """Return whether a rule of the project does what is wanted, whatever it is called."""
    return (
        (rule.is_ingress, rule.allows) == (wanted.is_ingress, wanted.allows)
        and _covers(rule.what, wanted.what)
        and (not rule.target_tags or set(wanted.target_tags) <= set(rule.target_tags))
        and set(wanted.source_tags) <= set(rule.source_tags)
        # Whom to let in is the operator's to say; what is denied is denied for all.
        and (wanted.allows or set(wanted.ranges) <= set(rule.ranges))
        and (wanted.allows or rule.priority <= wanted.priority)
    )


def _covers(what: tuple[str, ...], wanted: str) -> bool:
    return any(one.rstrip(":") in ("all", wanted, wanted.partition(":")[0]) for one in what)


def lets_neighbours_in(rule: Rule, *, denied_at: int) -> bool:
    """Return whether a rule lets whoever is inside the network reach its guests.

    As ``allow-internal`` does, wherever it stands; and as any does that comes before the priority ``denied_at``, by
    which they are denied each other: at the same priority the vendor denies.
    """
    if not (rule.is_ingress and rule.allows) or (rule.target_tags and not _GUESTS & {*rule.target_tags}):
        return False
    if not rule.target_tags and any(_is_inside(range_) for range_ in rule.ranges):
        return True
    is_open = bool(_GUESTS & {*rule.source_tags}) or any(_reaches_inside(range_) for range_ in rule.ranges)
    return is_open and rule.priority < denied_at


_GUESTS = frozenset(NETWORK_TAGS.values())
# Source: RFC 1918; the networks that subnetworks of the vendor's lie in unless somebody has brought his own.
_PRIVATE = tuple(IPv4Network(range_) for range_ in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def _is_inside(range_: str) -> bool:
    network = ip_network(range_, strict=False)
    return isinstance(network, IPv4Network) and any(network.subnet_of(one) for one in _PRIVATE)


def _reaches_inside(range_: str) -> bool:
    network = ip_network(range_, strict=False)
    return isinstance(network, IPv4Network) and any(network.overlaps(one) for one in _PRIVATE)


def permissions(*, metrics: bool) -> tuple[str, ...]:
    """Return the permissions that a table needs, with or without metrics."""
    return tuple(sorted({*PERMISSIONS, *(METRICS if metrics else ())}))


def role(*, metrics: bool = False) -> dict[str, Any]:
    """Return the custom role that is enough, as the vendor's tool reads it."""
    return {
        "title": "compute-bridge",
        "description": "Enough for one backend of compute-bridge, and no more.",
        "stage": "GA",
        "includedPermissions": list(permissions(metrics=metrics)),
    }


def rule_command(wanted: Wanted, *, project: str, network: str) -> str:
    """Return the command that makes a rule."""
    words = [f"gcloud compute firewall-rules create {wanted.name} --project={project} --network={network}"]
    words.append(f"--direction={'INGRESS' if wanted.is_ingress else 'EGRESS'}")
    words.append(f"--action={'ALLOW' if wanted.allows else 'DENY'} --rules={wanted.what} --priority={wanted.priority}")
    if wanted.ranges:
        words.append(f"--{'source' if wanted.is_ingress else 'destination'}-ranges={','.join(wanted.ranges)}")
    if wanted.source_tags:
        words.append(f"--source-tags={','.join(wanted.source_tags)}")
    words.append(f"--target-tags={','.join(wanted.target_tags)}")
    return " ".join(words)
