"""What the boot file may say of an account at AWS: whose it is, where it sells, and on which subnets."""

import re
from typing import Any

from attrs import field, frozen

from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.model.boot import FilePath, SecretRef, about
from compute_bridge.model.checks import Check, few, like, whole
from compute_bridge.model.resources import Region, Zone
from compute_bridge.model.units import Nanos, NanosPerHour

DEFAULT_CHAIN = "use whatever the SDK finds"
"""The words without which no credential is taken from the environment, a profile or an instance role."""

_MAX_NANOS = 10**15


def _values(pattern: str, wanted: str) -> Check:
    def check(_owner: object, attribute: Any, value: Any) -> None:
        if not 1 <= len(value) <= 64:
            raise ValueError(f"{attribute.name} must name 1 to 64 of them")
        for name, id_ in value.items():
            if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", name) or not re.fullmatch(pattern, id_):
                raise ValueError(f"{attribute.name}: {name} = {id_!r} is not {wanted}")

    return check


@frozen(kw_only=True)
class AwsRegion:
    """One region to sell in: a subnet for each zone, and an image of its own for each name."""

    name: Region = field(
        validator=like(r"[a-z]{2,}(-[a-z]+)+-\d", "the name of a region"), metadata=about("such as eu-central-1")
    )
    subnets: dict[str, str] = field(
        validator=_values(r"subnet-[0-9a-f]{8,17}", "a zone and its subnet (eu-central-1a = subnet-...)"),
        hash=False,
        metadata=about("the subnet of each zone to sell in, all of one VPC: zone = subnet id"),
    )
    images: dict[str, str] = field(
        validator=_values(r"ami-[0-9a-f]{8,17}", "a name and its image (debian = ami-...)"),
        hash=False,
        metadata=about("the image of each name that requests may ask for as vm:NAME: name = AMI id"),
    )

    @subnets.validator
    def _within(self, _attribute: object, value: dict[str, str]) -> None:
        for zone in value:
            if not zone.startswith(self.name):
                raise ValueError(f"subnets: zone {zone} is not in region {self.name}; write it in its own region")

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones to sell in, in ascending order."""
        return tuple(Zone(zone) for zone in sorted(self.subnets))


@frozen(kw_only=True)
class AwsConfig(CloudSettings):
    """One account at AWS."""

    account_id: str = field(
        validator=like(r"\d{12}", "an account id of 12 digits"),
        metadata=about("the account that the credentials must be of; under another nothing is done"),
    )
    access_key_id: SecretRef = field(default=SecretRef(""), metadata=about("the access key id"))
    secret_access_key: SecretRef = field(default=SecretRef(""), metadata=about("the secret access key"))
    session_token: SecretRef = field(
        default=SecretRef(""), metadata=about("the session token, where the key is a temporary one")
    )
    default_chain: str = field(
        default="", metadata=about(f'"{DEFAULT_CHAIN}", in exactly these words, in place of an access key')
    )
    regions: tuple[AwsRegion, ...] = field(validator=few(1, 64), metadata=about("one region to sell in", key="region"))
    confidential: bool = field(
        default=False,
        metadata=about("whether every machine is an AMD SEV-SNP guest; the posture sev-snp, never tdx, is sold then"),
    )
    confidential_surcharge_bps: int = field(
        default=1000,
        validator=whole(0, 10**6),
        metadata=about("AWS's fee for SEV-SNP, in hundredths of a percent of the on-demand price"),
    )
    architecture: str = field(
        default="x86_64",
        validator=like("x86_64|arm64", "x86_64 or arm64"),
        metadata=about("of every image, and so of every machine"),
    )
    public_address: bool = field(
        default=True, metadata=about("whether guests get a public IPv4 address, and are dialled there")
    )
    address_cost: NanosPerHour = field(
        validator=whole(0, _MAX_NANOS), metadata=about("what a public IPv4 address costs you, in nanos of USD an hour")
    )
    egress_cost: Nanos = field(
        validator=whole(0, _MAX_NANOS), metadata=about("what a GiB of outbound traffic costs you, in nanos of USD")
    )
    kms_key: str = field(
        default="",
        validator=like(r"|arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/.{1,256}", "the ARN of a KMS key"),
        metadata=about("the ARN of the KMS key that encrypts root volumes; the account's own for EBS, unless given"),
    )
    volume_type: str = field(
        default="gp3",
        validator=like("gp2|gp3", "gp2 or gp3, whose price is by the GiB alone"),
        metadata=about("the EBS type of root volumes, gp2 or gp3; its price is part of the cost"),
    )
    metrics: bool = field(
        default=False, metadata=about("whether CPU and network are read from CloudWatch, which bills each question")
    )
    endpoint_url: str = field(
        default="",
        validator=like(r"(https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?)?", "the URL of an endpoint"),
        metadata=about("one endpoint for every call in place of Amazon's own, such as a gateway of yours"),
    )
    ca_bundle: FilePath = field(
        default=FilePath(""), metadata=about("the CA certificates to trust, PEM; those of the SDK, unless given")
    )

    @default_chain.validator
    def _one_identity(self, _attribute: object, value: str) -> None:
        if value not in ("", DEFAULT_CHAIN):
            raise ValueError(f'default_chain must be exactly "{DEFAULT_CHAIN}", or be left out')
        keys = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        given = [name for name, ref in {**keys, "session_token": self.session_token}.items() if ref]
        missing = [name for name, ref in keys.items() if not ref]
        if value and given:
            raise ValueError(f"give an access key or default_chain, not both: leave out {' and '.join(given)}")
        if not value and missing:
            or_else = "" if given else f', or say default_chain = "{DEFAULT_CHAIN}"'
            raise ValueError(f"{' and '.join(missing)} must be given{or_else}")

    @regions.validator
    def _alike(self, _attribute: object, value: tuple[AwsRegion, ...]) -> None:
        names = [region.name for region in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two regions are called {twice[0]}: write each once")
        for region in value[1:]:
            if set(region.images) != set(value[0].images):
                raise ValueError(
                    f"regions {value[0].name} and {region.name} name different images: map the same names in each"
                )

    @property
    def image_names(self) -> tuple[str, ...]:
        """The names of the images, in ascending order."""
        return tuple(sorted(self.regions[0].images))

    @property
    def region_names(self) -> tuple[str, ...]:
        """The regions of the table."""
        return tuple(one.name for one in self.regions)

    def region(self, name: str) -> AwsRegion | None:
        """Return the region of this name, if it is in the table."""
        return next((region for region in self.regions if region.name == name), None)
