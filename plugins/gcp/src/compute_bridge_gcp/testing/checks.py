"""What Compute Engine refuses in the body of an insert, and what our own fake refuses beside that."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from compute_bridge.cloud.tags import NARROW
from compute_bridge_gcp.config import MAX_RUN_S, MIN_RUN_S
from compute_bridge_gcp.sdk import message_of, words_of
from compute_bridge_gcp.testing.stock import IMAGES, SHAPES, SNP_ZONES, SUBNETWORK, TDX_ZONES, ZONES

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_VALUE_BYTES = 256 * 1024
# Source: the vendor's page on the machine types of confidential machines.
_TDX = re.compile(r"c3-standard-\d+|a3-highgpu-1g")
_SNP = re.compile(r"n2d-.+")
_NONE = re.compile(r"(?!)")
_GIVEN = re.compile(r".*?projects/(?P<project>[^/]+)/global/images/(?:family/(?P<family>.+)|(?P<image>.+))")


class BadRequestError(Exception):
    """A request that is refused: the HTTP status, the reason, and words for whoever reads the fake's answer."""

    def __init__(self, message: str, *, reason: str = "invalid", status: int = 400) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


def _must(holds: object, message: str, *, reason: str = "invalid", status: int = 400) -> None:
    if not holds:
        raise BadRequestError(message, reason=reason, status=status)


def check_request_id(value: str) -> None:
    """Refuse a request id that is missing or none: without one a second try makes a second attempt."""
    _must(value, "requestId is missing", reason="required")
    try:
        number = UUID(value).int
    except ValueError:
        number = 0
    _must(number, f"requestId {value!r} is no UUID")


def check_instance(zone: str, body: Mapping[str, Any]) -> None:
    """Refuse what the vendor refuses, by its own message classes; and a machine that nobody would know again."""
    try:
        message = message_of("Instance", body)
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    _check_words(message)
    _must(_NAME.fullmatch(message.name), f"name {message.name!r}")
    shape = _shape(zone, message.machine_type)
    _check_labels(body.get("labels", {}))
    image = _check_disks(zone, message)
    _check_image(shape, image, message)
    _check_network(zone, message)
    _check_metadata(message)
    _check_scheduling(message)
    _check_confidential(zone, shape, image, message)
    _must(not message.service_accounts, "iam.serviceAccounts.actAs is not granted", reason="forbidden", status=403)


def _check_words(message: Any) -> None:
    kind = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        words = words_of(kind, field.name.rstrip("_"))
        if words is not None:
            _must(not value or value in words, f"{kind}.{field.name} {value!r} is not one of {sorted(words)}")
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for one in value if hasattr(value, "add") else [value]:
                _check_words(one)


def _shape(zone: str, link: str) -> str:
    _must(link, "machineType is missing", reason="required")
    shape = link.rpartition("/")[2]
    _must(link.endswith(f"zones/{zone}/machineTypes/{shape}"), f"machineType {link!r} is not in {zone}")
    _must(shape in SHAPES, f"no machine type {shape!r}", reason="notFound", status=404)
    return shape


def _check_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        _must(_LABEL.fullmatch(key) and _LABEL.fullmatch(value), f"label {key!r}: {value!r}")
    # Not the vendor's rule, but ours: who forgets one would not find the machine again.
    lacking = sorted(set(NARROW) - labels.keys())
    _must(not lacking, f"labels lack {lacking}", reason="required")


def _check_disks(zone: str, message: Any) -> str:
    boot = [disk for disk in message.disks if disk.boot]
    _must(len(boot) == 1, "one boot disk is needed", reason="required")
    wanted = boot[0].initialize_params
    _check_labels(dict(wanted.labels))
    _must(wanted.disk_size_gb >= 10, f"diskSizeGb {wanted.disk_size_gb} is less than the image's")
    _must(f"zones/{zone}/diskTypes/" in wanted.disk_type, f"diskType {wanted.disk_type!r} is not in {zone}")
    found = find_image(wanted.source_image)
    _must(found, f"no image {wanted.source_image!r}", reason="notFound", status=404)
    return found


def _check_image(shape: str, image: str, message: Any) -> None:
    features = IMAGES[image]["features"]
    right = IMAGES[image].get("architecture", "X86_64") == SHAPES[shape]["architecture"]
    _must(right, f"image {image} is not for the architecture of {shape}")
    gvnic = any(card.nic_type == "GVNIC" for card in message.network_interfaces)
    _must(not gvnic or "GVNIC" in features, f"image {image} has no driver for GVNIC")
    shielded = message.shielded_instance_config.enable_secure_boot
    _must(not shielded or "UEFI_COMPATIBLE" in features, f"image {image} is not UEFI_COMPATIBLE")


def find_image(link: str) -> str:
    """Return the image that a link or a family means, empty for none."""
    given = _GIVEN.fullmatch(link)
    if given is None:
        return ""
    names = [name for name, one in IMAGES.items() if given["image"] == name or given["family"] == one["family"]]
    return names[0] if names else ""


def _check_network(zone: str, message: Any) -> None:
    _must(message.network_interfaces, "networkInterfaces is missing", reason="required")
    region = zone.rpartition("-")[0]
    for card in message.network_interfaces:
        right = region in ZONES and card.subnetwork.endswith(f"regions/{region}/subnetworks/{SUBNETWORK}")
        _must(right, f"no subnetwork {card.subnetwork!r} in {region}")


def _check_metadata(message: Any) -> None:
    items = {item.key: item.value for item in message.metadata.items}
    _must(len(items) == len(message.metadata.items), "metadata has a key twice")
    _must(all(len(value.encode()) <= _VALUE_BYTES for value in items.values()), "a metadata value is too long")


def _check_scheduling(message: Any) -> None:
    plan = message.scheduling
    if plan.HasField("max_run_duration"):
        run_s = plan.max_run_duration.seconds
        _must(MIN_RUN_S <= run_s <= MAX_RUN_S, f"maxRunDuration {run_s} s")
        _must(plan.instance_termination_action, "instanceTerminationAction is missing", reason="required")
    if plan.provisioning_model == "SPOT":
        stays_down = plan.on_host_maintenance == "TERMINATE" and not plan.automatic_restart
        _must(stays_down, "a spot machine neither migrates nor restarts")


def _check_confidential(zone: str, shape: str, image: str, message: Any) -> None:
    kind = message.confidential_instance_config.confidential_instance_type
    if not kind:
        return
    _must(message.scheduling.on_host_maintenance == "TERMINATE", "a confidential machine does not migrate")
    places = {"TDX": (_TDX, TDX_ZONES), "SEV_SNP": (_SNP, SNP_ZONES)}
    shapes, zones = places.get(kind, (_NONE, ()))
    _must(shapes.fullmatch(shape) and zone in zones, f"{kind} is not supported by {shape} in {zone}")
    _must(f"{kind}_CAPABLE" in IMAGES[image]["features"], f"image {image} is not {kind}_CAPABLE")
