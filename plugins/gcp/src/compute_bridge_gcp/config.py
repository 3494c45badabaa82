"""What the boot file may say of a project at Google: its regions, its images, and under whose name it is used."""

from typing import Any

from attrs import field, frozen

from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.model.boot import SecretRef, about
from compute_bridge.model.checks import each, few, label, like, whole
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.resources import Posture, Region
from compute_bridge.model.units import HOUR_MS, Milliseconds, Nanos, NanosPerHour

DEFAULT_CHAIN = "use the default credentials of this machine"
"""The words without which nothing but a key from the boot file is used."""

MAX_RUN_S = 120 * 24 * 3600
"""The longest run that the vendor limits. Source: Compute Engine, "Limit the run time of a VM"."""
MIN_RUN_S = 30
"""The shortest. Source: the same page."""

_DAY_MS = 24 * HOUR_MS


_resource = like(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "the name of a resource (a-z, 0-9, '-', a letter first)")
_project = like(r"([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]", "the id of a project")
_owner = like(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a word of a-z, 0-9 and '-', as a label of the vendor takes it")
_account = like(r"[a-z0-9.-]{1,64}@[a-z0-9.-]{1,128}", "the e-mail of a service account")
# Nothing that carries a token leaves the machine in the clear.
_endpoint = like(r"|https://[A-Za-z0-9.:-]+|http://127\.[0-9.]+:[0-9]+", "https://HOST, without a path")
_zone = like(r"[a-z]+-[a-z]+[0-9]+-[a-z]", "a zone such as europe-west4-a")


@frozen(kw_only=True)
class GcpRegion:
    """One region on sale, and where its machines are connected."""

    name: Region = field(
        validator=like(r"[a-z]+-[a-z]+[0-9]+", "a region such as europe-west4"), metadata=about("the vendor's name")
    )
    subnetwork: str = field(
        validator=_resource, metadata=about("the subnetwork there, of a network that nothing else uses")
    )
    zones: tuple[str, ...] = field(
        default=(), validator=each(_zone, 0, 16), metadata=about("the zones on sale; all of the region, unless given")
    )

    @zones.validator
    def _lie_in_it(self, _attribute: object, value: tuple[str, ...]) -> None:
        if strays := [zone for zone in value if zone.rpartition("-")[0] != self.name]:
            raise ValueError(f"zone {strays[0]!r} does not lie in {self.name}")

    def sells(self, zone: str) -> bool:
        """Return whether a zone is on sale."""
        return zone.rpartition("-")[0] == self.name and (not self.zones or zone in self.zones)


@frozen(kw_only=True)
class GcpImage:
    """One image of ours and the vendor's image that it is; it must run cloud-init."""

    name: str = field(validator=label, metadata=about("what requesters call it, without vm:"))
    project: str = field(
        validator=_project, metadata=about("the project that the image is in, such as ubuntu-os-cloud")
    )
    family: str = field(default="", validator=like(r"|[a-z][-a-z0-9]{0,62}", "a family"), metadata=about("its family"))
    image: str = field(
        default="", validator=like(r"|[a-z][-a-z0-9]{0,62}", "an image"), metadata=about("or one image of it by name")
    )
    disk_gib: int = field(default=10, validator=whole(1, 2**14), metadata=about("the smallest disk that it boots from"))
    confidential: bool = field(
        default=False, metadata=about("whether it boots in confidential machines; its features must say so too")
    )

    @image.validator
    def _one_of_both(self, _attribute: object, value: str) -> None:
        if bool(value) is bool(self.family):
            raise ValueError("say either family or image")

    @property
    def source(self) -> str:
        """The image as the vendor's API names it."""
        return f"projects/{self.project}/global/images/{self.image or 'family/' + self.family}"


@frozen(kw_only=True)
class GcpConfig(CloudSettings):
    """One project at Google, used under one service account."""

    owner: str = field(
        validator=_owner,
        metadata=about("the word that marks what is yours in this project; the same for ever"),
    )
    project: str = field(validator=_project, metadata=about("the project's id"))
    service_account: str = field(
        validator=_account, metadata=about("the service account's e-mail; the bridge acts under no other identity")
    )
    credentials: SecretRef = field(
        default=SecretRef(""), metadata=about("the service account's key, a JSON file from the vendor")
    )
    default_chain: str = field(
        default="",
        validator=like(f"|{DEFAULT_CHAIN}", f"{DEFAULT_CHAIN!r}"),
        metadata=about(f'instead of credentials, in so many words: "{DEFAULT_CHAIN}"'),
    )
    regions: tuple[GcpRegion, ...] = field(validator=few(1, 64), metadata=about("the regions on sale", key="region"))
    images: tuple[GcpImage, ...] = field(validator=few(1, 64), metadata=about("the images on sale", key="image"))
    currency: str = field(default="USD", validator=like("[A-Z]{3}", "a currency"), metadata=about("of the prices"))
    architecture: str = field(
        default="x86_64", validator=like("x86_64|arm64", "x86_64 or arm64"), metadata=about("of shapes and images")
    )
    disk_type: str = field(
        default="pd-balanced",
        validator=like("pd-balanced|pd-ssd|pd-standard", "pd-balanced, pd-ssd or pd-standard"),
        metadata=about("of the boot disks"),
    )
    public_address: bool = field(
        default=True, metadata=about("whether each machine has a public address and is dialled there")
    )
    address_cost: NanosPerHour = field(
        default=NanosPerHour(0),
        validator=whole(0, 10**15),
        metadata=about("what a public address costs, in nanos an hour; the vendor's price, unless given"),
    )
    egress_cost: Nanos = field(
        validator=whole(0, 10**15), metadata=about("what a GiB of outbound traffic costs you, in nanos")
    )
    tdx_zones: tuple[str, ...] = field(
        default=(),
        validator=each(_zone, 0, 64),
        metadata=about("where c3-standard and a3-highgpu-1g are sold as trust domains; no API tells, so say it here"),
    )
    sev_snp_zones: tuple[str, ...] = field(
        default=(), validator=each(_zone, 0, 64), metadata=about("where n2d machines are sold with SEV-SNP; likewise")
    )
    confidential_cost: UnitNanos = field(
        default=UnitNanos(), metadata=about("what confidential machines cost beside their list price, in nanos an hour")
    )
    max_duration_ms: Milliseconds = field(
        default=Milliseconds(7 * _DAY_MS),
        # A day less than the vendor's own limit: a machine's own end lies beyond its lease.
        validator=whole(1, MAX_RUN_S * 1000 - _DAY_MS),
        metadata=about("the longest lease sold"),
    )
    metrics: bool = field(
        default=False,
        metadata=about("whether CPU and network are read from Cloud Monitoring, which bills what is read"),
    )
    page_size: int = field(default=500, validator=whole(1, 500), metadata=about("how much one page of a listing holds"))
    compute_endpoint: str = field(
        default="", validator=_endpoint, metadata=about("where Compute Engine answers, if not at its public address")
    )
    billing_endpoint: str = field(
        default="", validator=_endpoint, metadata=about("where Cloud Billing answers, likewise")
    )
    resource_endpoint: str = field(
        default="", validator=_endpoint, metadata=about("where Resource Manager answers, likewise")
    )
    monitoring_endpoint: str = field(
        default="", validator=_endpoint, metadata=about("where Cloud Monitoring answers, likewise")
    )

    @default_chain.validator
    def _one_identity(self, _attribute: object, value: str) -> None:
        if value and self.credentials:
            raise ValueError("give credentials or default_chain, not both: leave one of them out")
        if not value and not self.credentials:
            raise ValueError(f'credentials must be given, or say default_chain = "{DEFAULT_CHAIN}"')

    @regions.validator
    @images.validator
    def _told_apart(self, attribute: Any, value: tuple[Any, ...]) -> None:
        names = [one.name for one in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{attribute.name}: {twice[0]!r} stands twice")

    @tdx_zones.validator
    @sev_snp_zones.validator
    def _can_be_made(self, attribute: Any, value: tuple[str, ...]) -> None:
        for zone in value:
            # Its region may name other zones for now; but one that is not in the table is a slip of the pen.
            if zone.rpartition("-")[0] not in [region.name for region in self.regions]:
                raise ValueError(
                    f"{attribute.name} names {zone}, which lies in no region of the table: "
                    "add its region, or leave the zone out"
                )
        if value and not any(image.confidential for image in self.images):
            raise ValueError(
                f"{attribute.name} is given, but no image has confidential = true, so no machine there could start: "
                f"mark one that boots so, or leave {attribute.name} out"
            )

    @confidential_cost.validator
    def _is_known(self, _attribute: object, value: UnitNanos) -> None:
        if (self.tdx_zones or self.sev_snp_zones) and value == UnitNanos():
            raise ValueError("confidential machines cost more than their list price: say how much in confidential_cost")

    def posture(self, zone: str, shape: str) -> Posture:
        """Return how a machine of ``shape`` is protected in ``zone``.

        Source: only c3-standard without local disks and a3-highgpu-1g have TDX, and only n2d has SEV-SNP (vendor's
        documentation, 2026-11).
        """
        has_tdx = shape == "a3-highgpu-1g" or (shape.startswith("c3-standard-") and not shape.endswith("-lssd"))
        if has_tdx and zone in self.tdx_zones:
            return Posture.TDX
        if shape.startswith("n2d-") and zone in self.sev_snp_zones:
            return Posture.SEV_SNP
        return Posture.NONE

    @property
    def image_gib(self) -> int:
        """The largest disk that an image of the table boots from at least."""
        return max(image.disk_gib for image in self.images)

    @property
    def region_names(self) -> tuple[str, ...]:
        """The regions of the table."""
        return tuple(one.name for one in self.regions)

    def region_of(self, zone: str) -> GcpRegion | None:
        """Return the region on sale that ``zone`` lies in."""
        return next((region for region in self.regions if region.sells(zone)), None)

    def image_called(self, name: str) -> GcpImage | None:
        """Return the image that requesters call ``name``."""
        return next((image for image in self.images if image.name == name), None)
