"""Whether a machine may be made from a document: what Azure refuses beyond the shape of it."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from compute_bridge_azure.testing.answers import No, invalid
from compute_bridge_azure.testing.images import FakeImage
from compute_bridge_azure.testing.market import SIZES, FakeSize
from compute_bridge_azure.testing.shapes import check_document

_RESERVED = ("root", "admin", "administrator", "guest", "user", "test", "backup", "server", "sys", "owner")
_MAX_CUSTOM_DATA = 65_535
_IMAGE_GIB = 30
_TAG_NAME = re.compile(r"[^<>%&\\?/]{1,512}")


@frozen
class Rules:
    """What the account has and demands."""

    locations: tuple[str, ...]
    subnets: tuple[str, ...]
    security_groups: Mapping[str, list[dict[str, Any]]]
    images: Mapping[str, FakeImage]
    """What each urn or resource id means."""
    required_tags: tuple[str, ...] = ()
    """A policy of the account's: what lacks one of these is not made."""
    sizes: tuple[FakeSize, ...] = field(default=SIZES)
    full_quotas: tuple[str, ...] = ()
    """The quotas of which nothing is left, as a list of usages tells."""
    places: Mapping[str, str] = field(factory=dict)
    """Where each subnet and security group is: a machine is joined to those of its own location alone."""

    def size(self, name: str, location: str) -> FakeSize:
        """Return a size that the account may use there."""
        found = next((size for size in self.sizes if size.name == name and location in size.places), None)
        if found is None:
            raise invalid("vmSize", f"The value {name} provided for the VM size is not valid")
        if location in found.closed_locations:
            raise No(409, "SkuNotAvailable", target="vmSize")
        return found


def check_machine(body: dict[str, Any], rules: Rules) -> FakeSize:
    """Refuse what Azure refuses, and return the size."""
    check_document("VirtualMachine", body)
    properties = body.get("properties") or {}
    if body.get("location") not in rules.locations:
        raise No(400, "LocationNotAvailableForResourceType", target="location")
    size = rules.size(str(_wanted(properties, "hardwareProfile", "vmSize")), body["location"])
    if any(zone not in size.zones for zone in body.get("zones") or ()):
        raise invalid("zones")
    _check_tags(body, rules, "virtualMachine")
    _check_storage(properties, size, rules)
    _check_os(properties)
    _check_network(properties, rules, body["location"])
    _check_market(properties, size)
    return size


def _wanted(document: Any, *path: str) -> Any:
    for at, name in enumerate(path):
        if not isinstance(document, dict) or document.get(name) in (None, "", [], {}):
            raise invalid(".".join(path[: at + 1]), f"required parameter '{name}' is missing (null)")
        document = document[name]
    return document


def _check_tags(resource: dict[str, Any], rules: Rules, what: str) -> None:
    tags: dict[str, str] = resource.get("tags") or {}
    if len(tags) > 50 or any(not _TAG_NAME.fullmatch(name) or len(value) > 256 for name, value in tags.items()):
        raise No(400, "InvalidTag", target=what)
    if missing := [name for name in rules.required_tags if not tags.get(name)]:
        raise No(403, "RequestDisallowedByPolicy", f"{what} lacks the tag {missing[0]}", target=what)


def _check_storage(properties: dict[str, Any], size: FakeSize, rules: Rules) -> None:
    image = _wanted(properties, "storageProfile", "imageReference")
    urn = image.get("id") or ":".join(str(image.get(name)) for name in ("publisher", "offer", "sku", "version"))
    if urn not in rules.images:
        raise No(404, "PlatformImageNotFound", target="imageReference")
    disk = _wanted(properties, "storageProfile", "osDisk")
    if disk.get("createOption") != "FromImage" or disk.get("diskSizeGB", _IMAGE_GIB) < _IMAGE_GIB:
        raise invalid("osDisk")
    profile = properties.get("securityProfile") or {}
    is_confidential = profile.get("securityType") == "ConfidentialVM"
    encryption = ((disk.get("managedDisk") or {}).get("securityProfile") or {}).get("securityEncryptionType")
    if is_confidential:
        _wanted(properties, "securityProfile", "uefiSettings", "vTpmEnabled")
        if not encryption or not size.confidential:
            raise No(400, "BadRequest", "a confidential VM needs size and disk to be such", target="securityType")
    elif encryption:
        raise No(400, "BadRequest", "only a confidential VM takes these", target="securityEncryptionType")
    if refusal := rules.images[urn].refusal(size, is_confidential=is_confidential):
        raise No(400, "BadRequest", refusal, target="imageReference")


def _check_os(properties: dict[str, Any]) -> None:
    user = str(_wanted(properties, "osProfile", "adminUsername"))
    name = str(_wanted(properties, "osProfile", "computerName"))
    linux = _wanted(properties, "osProfile", "linuxConfiguration")
    if user in _RESERVED or not re.fullmatch(r"[a-z_][a-z0-9_-]{0,63}", user):
        raise invalid("osProfile.adminUsername", "The Admin Username specified is not allowed.")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?", name):
        raise invalid("osProfile.computerName")
    if linux.get("disablePasswordAuthentication") is not True:
        raise invalid("linuxConfiguration.disablePasswordAuthentication", "a password is wanted")
    for key in _wanted(linux, "ssh", "publicKeys"):
        if key.get("path") != f"/home/{user}/.ssh/authorized_keys":
            raise invalid("linuxConfiguration.ssh.publicKeys.path")
        if not str(key.get("keyData")).startswith(("ssh-rsa ", "ssh-ed25519 ")):
            raise invalid("linuxConfiguration.ssh.publicKeys.keyData")
    custom = properties["osProfile"].get("customData", "")
    try:
        base64.b64decode(custom, validate=True)
    except binascii.Error as error:
        raise invalid("osProfile.customData", "Custom data must be in Base64") from error
    if len(custom) > _MAX_CUSTOM_DATA:
        raise invalid("osProfile.customData", "Custom data is too long")


def _check_network(properties: dict[str, Any], rules: Rules, location: str) -> None:
    configurations = _wanted(properties, "networkProfile", "networkInterfaceConfigurations")
    _wanted(properties, "networkProfile", "networkApiVersion")
    for nic in configurations:
        _check_tags(nic, rules, "networkInterface")
        group = ((nic.get("properties") or {}).get("networkSecurityGroup") or {}).get("id")
        if group is not None and (group not in rules.security_groups or rules.places.get(group) != location):
            raise No(400, "InvalidResourceReference", target="networkSecurityGroup")
        for ip in _wanted(nic, "properties", "ipConfigurations"):
            subnet = _wanted(ip, "properties", "subnet", "id")
            if subnet not in rules.subnets or rules.places.get(subnet) != location:
                raise No(400, "InvalidResourceReference", target="subnet")
            if (address := ip["properties"].get("publicIPAddressConfiguration")) is not None:
                _check_address(address, rules)


def _check_address(address: dict[str, Any], rules: Rules) -> None:
    _check_tags(address, rules, "publicIPAddress")
    is_standard = (address.get("sku") or {}).get("name") == "Standard"
    if not is_standard or (address.get("properties") or {}).get("publicIPAllocationMethod") != "Static":
        # Source: Basic addresses are retired, and Standard ones are static.
        raise invalid("publicIPAddressConfiguration")


def _check_market(properties: dict[str, Any], size: FakeSize) -> None:
    is_spot = properties.get("priority") == "Spot"
    if not is_spot and (properties.get("evictionPolicy") or properties.get("billingProfile")):
        raise invalid("evictionPolicy", "only a Spot VM has one")
    if is_spot and not size.is_spot_capable:
        raise No(400, "BadRequest", "the VM size does not support Spot", target="priority")
