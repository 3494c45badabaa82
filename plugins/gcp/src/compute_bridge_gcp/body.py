"""The machine of an order as Compute Engine is asked for it: the same order gives the same body, but for its run."""

from typing import Any
from uuid import UUID, uuid5

from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.tags import NARROW, OWNER, tags_of
from compute_bridge.model.ids import Token
from compute_bridge.model.resources import NetworkPolicy, Posture, Zone
from compute_bridge.ports.backend import Order
from compute_bridge_gcp.config import MAX_RUN_S, MIN_RUN_S, GcpConfig, GcpImage, GcpRegion

GUEST_GRACE_MS = 120_000
"""How long after the vendor's own timer the guest's may end what that one missed."""

NETWORK_TAGS = {NetworkPolicy.EGRESS: "cb-egress", NetworkPolicy.ISOLATED: "cb-isolated"}
"""What the network's firewall rules know machines by."""

_TOKENS = UUID("6f0c4a0e-9d0b-5d64-8a53-3b5b0d5a7f11")
_CONFIDENTIAL = {Posture.TDX: "TDX", Posture.SEV_SNP: "SEV_SNP"}


def request_id(token: Token) -> str:
    """Return the request id by which the vendor knows a create again."""
    return str(uuid5(_TOKENS, token.hex()))


def owned_by(owner: str) -> str:
    """Return the filter of a listing for what carries an owner's label."""
    return f'labels.{OWNER}="{owner}"'


def run_s(order: Order, *, now_ms: int) -> int:
    """Return how many seconds the vendor lets the machine run: what is left, rounded up."""
    left = -(-(order.ends_at - now_ms) // 1000)
    return min(max(left, MIN_RUN_S), MAX_RUN_S)


def machine_body(config: GcpConfig, region: GcpRegion, image: GcpImage, order: Order, *, now_ms: int) -> dict[str, Any]:
    """Return the body of the one call that makes the machine of ``order``."""
    tags = tags_of(order, config)
    labels = {name: tags[name] for name in NARROW}
    zone = order.offer.zone
    body = {
        "name": order.ownership.name,
        "machine_type": f"zones/{zone}/machineTypes/{order.offer.shape}",
        "labels": labels,
        "tags": {"items": [NETWORK_TAGS[order.requirements.network]]},
        "service_accounts": [],
        "deletion_protection": False,
        "disks": [_disk(config, zone, image, order, labels)],
        "network_interfaces": [_interface(config, region)],
        "metadata": {"items": _metadata(config, order, tags)},
        "scheduling": _scheduling(order, run_s(order, now_ms=now_ms)),
        "shielded_instance_config": {
            "enable_vtpm": True,
            "enable_secure_boot": True,
            "enable_integrity_monitoring": True,
        },
    }
    if order.offer.posture in _CONFIDENTIAL:
        kind = _CONFIDENTIAL[order.offer.posture]
        body["confidential_instance_config"] = {"confidential_instance_type": kind}
    return body


def _disk(config: GcpConfig, zone: Zone, image: GcpImage, order: Order, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "boot": True,
        "auto_delete": True,
        "initialize_params": {
            "source_image": image.source,
            "disk_size_gb": max(image.disk_gib, order.requirements.resources.disk_gib),
            "disk_type": f"zones/{zone}/diskTypes/{config.disk_type}",
            "labels": labels,
        },
    }


def _interface(config: GcpConfig, region: GcpRegion) -> dict[str, Any]:
    subnetwork = f"projects/{config.project}/regions/{region.name}/subnetworks/{region.subnetwork}"
    interface: dict[str, Any] = {"subnetwork": subnetwork, "nic_type": "GVNIC"}
    if config.public_address:
        interface["access_configs"] = [{"type_": "ONE_TO_ONE_NAT", "name": "External NAT"}]
    return interface


def _metadata(config: GcpConfig, order: Order, tags: dict[str, str]) -> list[dict[str, str]]:
    values = {
        "user-data": cloud_config(order, config, grace_ms=GUEST_GRACE_MS),
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
        "serial-port-enable": "FALSE",
    }
    # What no label can hold; labels take 63 letters of a-z, 0-9, '-' and '_'.
    values |= {name: value for name, value in tags.items() if name not in NARROW}
    return [{"key": key, "value": value} for key, value in values.items()]


def _scheduling(order: Order, run_s_: int) -> dict[str, Any]:
    return {
        "max_run_duration": {"seconds": run_s_},
        "instance_termination_action": "DELETE",
        "on_host_maintenance": "TERMINATE",
        "automatic_restart": False,
        "provisioning_model": "SPOT" if order.offer.spot else "STANDARD",
    }
