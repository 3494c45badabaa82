"""The one document that makes a machine: with its disk, its NIC and its address, which end with it."""

import base64
from typing import Any

from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.tags import tags_of
from compute_bridge.model.ids import BackendName
from compute_bridge.model.resources import Posture
from compute_bridge.ports.backend import Offer, Order
from compute_bridge.ports.errors import UnservableError
from compute_bridge_azure.config import AzureConfig, AzureImage, GuestNetwork
from compute_bridge_azure.sizes import is_arm

GUEST_GRACE_MS = 120_000
"""How long after its end a guest powers itself off: a bridge that lives has ended it by then."""
MAX_CUSTOM_DATA = 65_535
"""Source: the SDK's documentation of ``custom_data``."""

# Names that Azure gives no first user. Source: osProfile.adminUsername in the SDK's documentation.
_RESERVED = frozenset(
    "administrator admin user user1 test user2 test1 user3 admin1 1 123 a actuser adm admin2 aspnet backup console "
    "david guest john owner root server sql support support_388945a0 sys test2 test3 user4 user5".split()
)
_OUR_USER = "bridge"
_KEYS = ("ssh-ed25519 ", "ssh-rsa ")


def nic_name(name: str) -> str:
    """Return the name of a machine's NIC, to which Azure may add."""
    return f"{name}-nic"


def address_name(name: str) -> str:
    """Return the name of its public address, to which Azure may add."""
    return f"{name}-ip"


def disk_name(name: str) -> str:
    """Return the name of its boot disk."""
    return f"{name}-os"


def urn_of(config: AzureConfig, offer: Offer, image: str) -> str:
    """Return the image to boot, empty where the table has none for such a machine."""
    found = config.image(image.removeprefix("vm:"))
    return "" if found is None else urn_for(found, is_confidential=is_confidential(offer), arm=is_arm(offer.shape))


def urn_for(image: AzureImage, *, is_confidential: bool, arm: bool) -> str:
    """Return the image for one sort of machine, empty where there is none."""
    if arm:
        return "" if is_confidential else image.arm64_urn
    return image.confidential_urn if is_confidential else image.urn


def is_confidential(offer: Offer) -> bool:
    """Return whether machines of an offer start as confidential ones."""
    return offer.posture is not Posture.NONE


def refuse(config: AzureConfig, backend: BackendName, order: Order) -> None:
    """Refuse an order that no document can be written for.

    :raises UnservableError: if so.
    """
    if is_confidential(order.offer) and not config.confidential:
        raise UnservableError(f"backend {backend}: the table sells no confidential machines; set confidential = true")
    if not urn_of(config, order.offer, order.image.name):
        raise UnservableError(f"backend {backend}: no {order.image.name} for {order.offer.shape}; give it an urn")
    if network_of(config, order) is None:
        raise UnservableError(f"backend {backend}: no network for {order.requirements.network} in {order.offer.region}")
    if not order.access.authorized_key.startswith(_KEYS):
        raise UnservableError(f"backend {backend}: Azure takes Ed25519 and RSA keys only; log in with one of those")
    if len(_custom_data(config, order)) > MAX_CUSTOM_DATA:
        raise UnservableError(
            f"backend {backend}: what the guest is told is longer than Azure takes; use a shorter key"
        )


def network_of(config: AzureConfig, order: Order) -> GuestNetwork | None:
    """Return where the guest of an order is put."""
    location = config.location(order.offer.region)
    return None if location is None else location.network(order.requirements.network)


def machine_body(config: AzureConfig, order: Order) -> dict[str, Any]:
    """Return the body of the PUT; the same order gives the same body. It holds the guest's host key."""
    tags = tags_of(order, config)
    body: dict[str, Any] = {
        "location": order.offer.region,
        "tags": tags,
        "properties": {
            "hardwareProfile": {"vmSize": order.offer.shape},
            "storageProfile": _storage(config, order),
            "osProfile": _os(config, order),
            "networkProfile": _network(config, order, tags),
            **_security(config, order.offer),
            **_market(order.offer),
        },
    }
    if order.offer.zone:
        body["zones"] = [order.offer.zone.rpartition("-")[2]]
    return body


def _storage(config: AzureConfig, order: Order) -> dict[str, Any]:
    managed: dict[str, Any] = {"storageAccountType": config.disk_type}
    if is_confidential(order.offer):
        managed["securityProfile"] = {"securityEncryptionType": "VMGuestStateOnly"}
    return {
        "imageReference": image_reference(urn_of(config, order.offer, order.image.name)),
        "osDisk": {
            "name": disk_name(order.ownership.name),
            "createOption": "FromImage",
            "deleteOption": "Delete",
            "diskSizeGB": max(config.image_gib, order.requirements.resources.disk_gib),
            "managedDisk": managed,
        },
    }


def image_reference(urn: str) -> dict[str, str]:
    """Return how a document names an image."""
    if urn.startswith("/"):
        return {"id": urn}
    return dict(zip(("publisher", "offer", "sku", "version"), urn.split(":"), strict=True))


def _os(config: AzureConfig, order: Order) -> dict[str, Any]:
    # Azure wants a first user with a key; who may log in is the guest's document's to say, and that is the same key.
    user = order.access.user if order.access.user not in _RESERVED else _OUR_USER
    key = {"path": f"/home/{user}/.ssh/authorized_keys", "keyData": order.access.authorized_key}
    return {
        "computerName": order.ownership.name,
        "adminUsername": user,
        "customData": _custom_data(config, order),
        "allowExtensionOperations": False,
        "linuxConfiguration": {
            "disablePasswordAuthentication": True,
            "provisionVMAgent": False,
            "ssh": {"publicKeys": [key]},
        },
    }


def _custom_data(config: AzureConfig, order: Order) -> str:
    document = cloud_config(order, config, grace_ms=GUEST_GRACE_MS)
    return base64.b64encode(document.encode()).decode()


def _network(config: AzureConfig, order: Order, tags: dict[str, str]) -> dict[str, Any]:
    network = network_of(config, order)
    if network is None:  # refuse() has seen to that
        raise UnservableError(f"no network for {order.requirements.network} in {order.offer.region}")
    address = {
        "name": address_name(order.ownership.name),
        "tags": tags,
        "sku": {"name": "Standard"},
        "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
    }
    ip = {
        "name": "ip",
        "properties": {"subnet": {"id": network.subnet}, "primary": True, "publicIPAddressConfiguration": address},
    }
    nic = {
        "name": nic_name(order.ownership.name),
        "tags": tags,
        "properties": {
            "primary": True,
            "deleteOption": "Delete",
            "networkSecurityGroup": {"id": network.security_group},
            "ipConfigurations": [ip],
        },
    }
    return {"networkApiVersion": "2022-11-01", "networkInterfaceConfigurations": [nic]}


def _security(config: AzureConfig, offer: Offer) -> dict[str, Any]:
    profile: dict[str, Any] = {}
    if is_confidential(offer):
        profile = {"securityType": "ConfidentialVM", "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True}}
    if config.encryption_at_host:
        profile["encryptionAtHost"] = True
    return {"securityProfile": profile} if profile else {}


def _market(offer: Offer) -> dict[str, Any]:
    if not offer.spot:
        return {}
    return {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}
