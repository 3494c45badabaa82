"""What the boot file may say of one Azure subscription: who we are there, where we sell, and from which images."""

from enum import StrEnum

from attrs import field, frozen

from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.model.boot import FilePath, SecretRef, about
from compute_bridge.model.checks import each, few, label, like, whole
from compute_bridge.model.resources import NetworkPolicy, Region, Zone
from compute_bridge.model.units import Nanos, NanosPerHour

_GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MAX_NANOS = 10**12


class Credential(StrEnum):
    """How the bridge proves itself to Azure."""

    CLIENT_SECRET = "client-secret"  # noqa: S105 - a word of the boot file
    DEFAULT_CHAIN = "default-chain"


# --- checks -----------------------------------------------------------------------------------


_guid = like(_GUID, "an id such as 01234567-89ab-cdef-0123-456789abcdef, in lower case")
_https = like(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?", "an https:// address without a query")
_resource = like(
    r"/subscriptions/[^/\s]+/resourceGroups/[^/\s]+/providers/[A-Za-z.]+(/[^/\s]+/[^/\s]+)+", "a resource id"
)
_group = like(r"[A-Za-z0-9._()-]{0,89}[A-Za-z0-9_()-]", "a resource group's name")
_location = like(r"[a-z0-9]{1,50}", "a location as Azure writes it: westeurope")
_URN = r"[A-Za-z0-9._-]+(:[A-Za-z0-9._-]+){3}"
_image = like(f"({_URN}|/subscriptions/[^\\s]+)?", "an urn such as Canonical:ubuntu-24_04-lts:server:latest, or an id")


def _subscription_of(id_: str) -> str:
    """Return the subscription of a resource id; Azure writes ids in any case."""
    return id_.split("/")[2].lower()


# --- tables -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class GuestNetwork:
    """Where guests under one network policy are put; both things are yours, the plugin makes and changes neither."""

    policy: NetworkPolicy = field(metadata=about("egress or isolated: what this security group holds guests to"))
    subnet: str = field(validator=_resource, metadata=about("the resource id of the subnet"))
    security_group: str = field(
        validator=_resource, metadata=about("the resource id of the network security group of every guest's NIC")
    )


@frozen(kw_only=True)
class Location:
    """One location in which machines are sold."""

    name: Region = field(validator=_location, metadata=about("the location as Azure writes it: westeurope"))
    zones: tuple[str, ...] = field(
        default=(),
        validator=each(like("[1-9]", "a zone's number"), 0, 9),
        metadata=about('the zones sold, as ["1", "2"]; all that a size has, unless given'),
    )
    networks: tuple[GuestNetwork, ...] = field(
        validator=few(1, 2), metadata=about("a subnet and a security group for each policy", key="network")
    )

    @networks.validator
    def _once_each(self, _attribute: object, value: tuple[GuestNetwork, ...]) -> None:
        if len({network.policy for network in value}) < len(value):
            raise ValueError(f"location {self.name} names a network policy twice: name each once")

    def network(self, policy: NetworkPolicy) -> GuestNetwork | None:
        """Return where guests under ``policy`` are put."""
        return next((network for network in self.networks if network.policy is policy), None)

    def zone(self, number: str) -> Zone:
        """Return our word for one of its zones: Azure's alone would be the same in every location."""
        return Zone(f"{self.name}-{number}")


@frozen(kw_only=True)
class AzureImage:
    """One image by the name that requesters use, ``vm:`` and ``name``."""

    name: str = field(validator=label, metadata=about("what requesters call it, without vm:"))
    urn: str = field(
        default="",
        validator=_image,
        metadata=about("publisher:offer:sku:version, or a resource id, for x86_64 machines; generation 2"),
    )
    confidential_urn: str = field(
        default="", validator=_image, metadata=about("the same for confidential machines: a sku such as cvm")
    )
    arm64_urn: str = field(default="", validator=_image, metadata=about("the same for arm64 machines"))

    def __attrs_post_init__(self) -> None:
        if not self.urn and not self.confidential_urn and not self.arm64_urn:
            raise ValueError(f"image {self.name} has no urn: give one at least")


@frozen(kw_only=True)
class AzureConfig(CloudSettings):
    """One subscription, one resource group in it that holds everything the bridge makes, and who the bridge is."""

    tenant: str = field(validator=_guid, metadata=about("the directory (tenant) id; a token of another is refused"))
    subscription: str = field(validator=_guid, metadata=about("the subscription id"))
    principal: str = field(
        validator=_guid,
        metadata=about("the object id of the bridge's service principal; under another the bridge does nothing"),
    )
    credential: Credential = field(
        default=Credential.CLIENT_SECRET,
        metadata=about('client-secret, or "default-chain" in so many words for whatever the machine has'),
    )
    client: str = field(
        default="",
        validator=like(f"({_GUID})?", "an application (client) id"),
        metadata=about("the application (client) id, for client-secret"),
    )
    client_secret: SecretRef = field(default=SecretRef(""), metadata=about("its secret, for client-secret"))
    resource_group: str = field(
        validator=_group, metadata=about("the resource group that holds all that the bridge makes, and nothing else")
    )
    locations: tuple[Location, ...] = field(
        validator=few(1, 64), metadata=about("where machines are sold", key="location")
    )
    image_table: tuple[AzureImage, ...] = field(
        validator=few(1, 64), metadata=about("the images that requesters may name", key="image")
    )
    confidential: bool = field(
        default=False, metadata=about("whether DC and EC sizes are sold, as confidential machines; never otherwise")
    )
    currency: str = field(
        default="USD",
        validator=like("[A-Z]{3}", "a currency of three capital letters, such as USD"),
        metadata=about("the currency that prices are read in"),
    )
    disk_cost: NanosPerHour = field(
        validator=whole(0, _MAX_NANOS), metadata=about("what a GiB of the boot disk's type costs, in nanos an hour")
    )
    address_cost: NanosPerHour = field(
        validator=whole(0, _MAX_NANOS), metadata=about("what a Standard public IPv4 address costs, in nanos an hour")
    )
    egress_cost: Nanos = field(
        validator=whole(0, _MAX_NANOS), metadata=about("what a GiB sent to the Internet costs, in nanos")
    )
    disk_type: str = field(
        default="StandardSSD_LRS",
        validator=like(r"(Standard|StandardSSD|Premium)_(LRS|ZRS)", "a managed disk's type"),
        metadata=about("the type of the boot disk"),
    )
    image_gib: int = field(
        default=30, validator=whole(1, 4095), metadata=about("the smallest boot disk, which an image itself needs")
    )
    encryption_at_host: bool = field(
        default=False, metadata=about("whether the host encrypts caches and temporary disks too; a feature to register")
    )
    metrics: bool = field(
        default=False,
        metadata=about("whether CPU and network of a lease are Azure Monitor's; a call each time"),
    )
    arm: str = field(
        default="https://management.azure.com",
        validator=_https,
        metadata=about("the Resource Manager's address; another for a national cloud"),
    )
    authority: str = field(
        default="https://login.microsoftonline.com",
        validator=_https,
        metadata=about("where tokens come from; another for a national cloud"),
    )
    prices: str = field(
        default="https://prices.azure.com", validator=_https, metadata=about("where retail prices come from")
    )
    ca_file: FilePath = field(
        default=FilePath(""), metadata=about("a PEM file of whom to trust in place of the public authorities")
    )

    @client.validator
    def _proves_somebody(self, _attribute: object, value: str) -> None:
        has_any, has_both = bool(self.client_secret or value), bool(self.client_secret and value)
        if self.credential is Credential.CLIENT_SECRET and not has_both:
            raise ValueError('client-secret needs client and client_secret; or say credential = "default-chain"')
        if self.credential is Credential.DEFAULT_CHAIN and has_any:
            raise ValueError("default-chain takes neither client nor client_secret: leave them out")

    @locations.validator
    def _has_networks(self, _attribute: object, value: tuple[Location, ...]) -> None:
        if len({location.name for location in value}) < len(value):
            raise ValueError("a location stands there twice: name each once")
        for location in value:
            missing = [policy for policy in self.networks if location.network(policy) is None]
            if missing:
                raise ValueError(
                    f"location {location.name} has no network for {missing[0]}: add one, or do not sell it"
                )

    @locations.validator
    def _in_the_subscription(self, _attribute: object, value: tuple[Location, ...]) -> None:
        networks = [(location.name, network) for location in value for network in location.networks]
        for name, network in networks:
            for key, id_ in (("subnet", network.subnet), ("security_group", network.security_group)):
                if _subscription_of(id_) != self.subscription:
                    raise ValueError(
                        f"location {name}, network {network.policy}: {key} is of subscription {_subscription_of(id_)}, "
                        f"and the table's is {self.subscription}: name one of the table's own"
                    )

    @image_table.validator
    def _named_once(self, _attribute: object, value: tuple[AzureImage, ...]) -> None:
        if len({image.name for image in value}) < len(value):
            raise ValueError("two images have one name: give each its own")

    @property
    def region_names(self) -> tuple[str, ...]:
        """The locations of the table."""
        return tuple(one.name for one in self.locations)

    def location(self, name: str) -> Location | None:
        """Return the location of that name, if the table has it."""
        return next((location for location in self.locations if location.name == name), None)

    def image(self, name: str) -> AzureImage | None:
        """Return the image that ``vm:name`` means."""
        return next((image for image in self.image_table if image.name == name), None)
