"""What the fake AWS has: two regions, a few machine types, images, subnets and made-up prices."""

from typing import Any, Final

from attrs import frozen

ACCOUNT: Final = "123456789012"
OTHER_ACCOUNT: Final = "999999999999"
ZONES: Final = {
    "eu-west-1": ("eu-west-1a", "eu-west-1b"),
    "us-east-2": ("us-east-2a",),
}
VPCS: Final = {"eu-west-1": "vpc-0e0e0e0e0e0e0e0e0", "us-east-2": "vpc-0a0a0a0a0a0a0a0a0"}
SUBNETS: Final = {
    "eu-west-1a": "subnet-0aaaaaaaaaaaaaaa1",
    "eu-west-1b": "subnet-0aaaaaaaaaaaaaaa2",
    "us-east-2a": "subnet-0aaaaaaaaaaaaaaa3",
}
IMAGES: Final = {"eu-west-1": "ami-0de0000000000000e", "us-east-2": "ami-0de0000000000000a"}
OLD_IMAGES: Final = {"eu-west-1": "ami-01d0000000000000e", "us-east-2": "ami-01d0000000000000a"}
"""Images that boot by BIOS, and are larger than the others."""
VOLUME_PRICE: Final = "0.0880000000"


@frozen
class Type:
    """One machine type. ``price`` and ``spot_price`` are US dollars an hour, as AWS writes them; empty for none."""

    name: str
    cores: int
    threads: int
    mem_mib: int
    price: str = ""
    spot_price: str = ""
    gpus: int = 0
    architecture: str = "x86_64"
    features: tuple[str, ...] = ()
    is_metal: bool = False
    zones: tuple[str, ...] = tuple(SUBNETS)
    local_gb: int = 0

    @property
    def vcpus(self) -> int:
        """How many vCPUs a machine of this type has."""
        return self.cores * self.threads

    def told(self) -> dict[str, Any]:
        """Return what DescribeInstanceTypes says of it."""
        gpus: dict[str, Any] = {
            "GpuInfo": {"Gpus": [{"Name": "T4", "Manufacturer": "NVIDIA", "Count": self.gpus}]},
        }
        return {
            "InstanceType": self.name,
            "CurrentGeneration": True,
            "SupportedUsageClasses": ["on-demand", *(["spot"] if self.spot_price else [])],
            "BareMetal": self.is_metal,
            "ProcessorInfo": {
                "SupportedArchitectures": [self.architecture],
                "SupportedFeatures": list(self.features),
            },
            "VCpuInfo": {
                "DefaultVCpus": self.vcpus,
                "DefaultCores": self.cores,
                "DefaultThreadsPerCore": self.threads,
            },
            "MemoryInfo": {"SizeInMiB": self.mem_mib},
            **(gpus if self.gpus else {}),
            "InstanceStorageSupported": bool(self.local_gb),
            **({"InstanceStorageInfo": {"TotalSizeInGB": self.local_gb}} if self.local_gb else {}),
        }


TYPES: Final = (
    Type("c6a.large", 1, 2, 4096, "0.0765000000", "0.031200", features=("amd-sev-snp",)),
    Type("m6a.xlarge", 2, 2, 16384, "0.1728000000", "0.070000", features=("amd-sev-snp",), zones=("eu-west-1a",)),
    Type("m7i.large", 1, 2, 8192, "0.1008000000", "0.040100"),
    Type("t3.micro", 1, 2, 1024, "0.0104000000", "0.003100"),
    Type("t4g.micro", 2, 1, 1024, "0.0084000000", "0.002500", architecture="arm64"),
    Type("g4dn.xlarge", 2, 2, 16384, "0.5260000000", "0.180000", gpus=1, local_gb=125),
    # A word that the SDK's enum does not have, as real answers do.
    Type("m7i.metal-24xl", 48, 2, 393216, "4.8384000000", features=("metal-compatibility",), is_metal=True),
    Type("r7i.large", 1, 2, 16384, "0.0000000000"),
    Type("x2idn.16xlarge", 32, 2, 1048576),
)
BY_NAME: Final = {type_.name: type_ for type_ in TYPES}


def image(region: str, id_: str) -> dict[str, Any] | None:
    """Return what DescribeImages says of an image."""
    if id_ not in (IMAGES[region], OLD_IMAGES[region]):
        return None
    return {
        "ImageId": id_,
        "State": "available",
        "Architecture": "x86_64",
        "RootDeviceType": "ebs",
        "RootDeviceName": "/dev/xvda",
        "BootMode": "uefi-preferred" if id_ == IMAGES[region] else "legacy-bios",
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8 if id_ == IMAGES[region] else 12, "VolumeType": "gp3"}}
        ],
    }
