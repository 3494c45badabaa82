"""The one request that makes a machine: the same order and table give the same bytes, for the token wants it so."""

from typing import Any

from attrs import frozen

from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.tags import OWNER, tags_of, token_word
from compute_bridge.model.resources import Posture
from compute_bridge.model.units import Milliseconds
from compute_bridge.ports.backend import Order
from compute_bridge_aws.config import AwsConfig, AwsRegion

NAME = "Name"
"""The tag that AWS's console shows as a machine's name."""

MAX_USER_DATA = 16_384
"""Source: EC2 API reference, RunInstances, UserData: 16 KB before it is encoded."""

GUEST_GRACE_MS = Milliseconds(60_000)
"""By how much the timer in the guest is later than the lease, so that a bridge that lives ends it first."""

_METADATA = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"}
_SNP = {"AmdSevSnp": "enabled"}
_SPOT = {
    "MarketType": "spot",
    "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
}
_KINDS = ("instance", "volume", "network-interface")


@frozen
class Image:
    """What has to be known of an image: its id, its root device, and the smallest disk that it fits on."""

    id: str
    root_device: str
    least_gib: int


def user_data(order: Order, config: AwsConfig) -> str:
    """Return the document that the guest starts by."""
    return cloud_config(order, config, grace_ms=GUEST_GRACE_MS)


def launch_request(order: Order, config: AwsConfig, region: AwsRegion, *, image: Image, group: str) -> dict[str, Any]:
    """Return the arguments of ``RunInstances``."""
    request: dict[str, Any] = {
        "ClientToken": token_word(order.token),
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": image.id,
        "InstanceType": order.offer.shape,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": _METADATA,
        "NetworkInterfaces": [_interface(config, subnet=region.subnets[order.offer.zone], group=group)],
        "BlockDeviceMappings": [_root_disk(order.requirements.resources.disk_gib, config, image)],
        "TagSpecifications": _tagged(order, config),
        "UserData": user_data(order, config),
    }
    if order.offer.posture is Posture.SEV_SNP:
        request["CpuOptions"] = _SNP
    if order.offer.spot:
        request["InstanceMarketOptions"] = _SPOT
    return request


def probe_request(config: AwsConfig, *, image: Image, shape: str, subnet: str, spot: bool) -> dict[str, Any]:
    """Return what a dry run asks: a request as ``launch_request`` makes them, of nobody, in the VPC's own group."""
    nic = _interface(config, subnet=subnet, group="")
    del nic["Groups"]
    tags = [{"Key": OWNER, "Value": config.owner}]
    return {
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": image.id,
        "InstanceType": shape,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": _METADATA,
        "NetworkInterfaces": [nic],
        "BlockDeviceMappings": [_root_disk(image.least_gib, config, image)],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in _kinds(spot=spot)],
        **({"CpuOptions": _SNP} if config.confidential else {}),
        **({"InstanceMarketOptions": _SPOT} if spot else {}),
    }


def _interface(config: AwsConfig, *, subnet: str, group: str) -> dict[str, Any]:
    return {
        "DeviceIndex": 0,
        "SubnetId": subnet,
        "Groups": [group],
        "AssociatePublicIpAddress": config.public_address,
        "DeleteOnTermination": True,
    }


def _root_disk(size_gib: int, config: AwsConfig, image: Image) -> dict[str, Any]:
    disk: dict[str, Any] = {
        "Encrypted": True,
        "DeleteOnTermination": True,
        "VolumeSize": max(size_gib, image.least_gib),
        "VolumeType": config.volume_type,
    }
    if config.kms_key:
        disk["KmsKeyId"] = config.kms_key
    return {"DeviceName": image.root_device, "Ebs": disk}


def _tagged(order: Order, config: AwsConfig) -> list[dict[str, Any]]:
    tags = {NAME: order.ownership.name, **tags_of(order, config)}
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    return [{"ResourceType": kind, "Tags": pairs} for kind in _kinds(spot=order.offer.spot)]


def _kinds(*, spot: bool) -> tuple[str, ...]:
    return (*_KINDS, "spot-instances-request") if spot else _KINDS
