"""What a fake project is made of: zones, machine types, prices, images, a network. Invented numbers, real shapes."""

from typing import Any

ZONES = {
    "europe-west4": ("europe-west4-a", "europe-west4-b"),
    "us-central1": ("us-central1-a",),
}
PROJECT = "cb-test-project"
ACCOUNT = f"bridge@{PROJECT}.iam.gserviceaccount.com"
NETWORK = "cb-net"
SUBNETWORK = "cb-subnet"
TDX_ZONES = ("europe-west4-a",)
SNP_ZONES = ("europe-west4-a", "us-central1-a")

SHAPES: dict[str, dict[str, Any]] = {
    "e2-standard-2": {"guestCpus": 2, "memoryMb": 8192, "architecture": "X86_64"},
    "n2d-standard-2": {"guestCpus": 2, "memoryMb": 8192, "architecture": "X86_64"},
    "c3-standard-4": {"guestCpus": 4, "memoryMb": 16384, "architecture": "X86_64"},
    "c3-standard-4-lssd": {
        "guestCpus": 4,
        "memoryMb": 16384,
        "architecture": "X86_64",
        "bundledLocalSsds": {"defaultInterface": "NVME", "partitionCount": 1},
    },
    "n2-standard-2": {"guestCpus": 2, "memoryMb": 8192, "architecture": "X86_64", "deprecated": {"state": "OBSOLETE"}},
    "t2a-standard-1": {"guestCpus": 1, "memoryMb": 4096, "architecture": "ARM64"},
    "c4-standard-4-lssd": {
        "guestCpus": 4,
        "memoryMb": 15360,
        "architecture": "X86_64",
        "bundledLocalSsds": {"defaultInterface": "NVME", "partitionCount": 1},
    },
    "a3-highgpu-1g": {
        "guestCpus": 26,
        "memoryMb": 239616,
        "architecture": "X86_64",
        "accelerators": [{"guestAcceleratorType": "nvidia-h100-80gb", "guestAcceleratorCount": 1}],
        "bundledLocalSsds": {"defaultInterface": "NVME", "partitionCount": 2},
    },
    "a2-highgpu-1g": {
        "guestCpus": 12,
        "memoryMb": 87040,
        "architecture": "X86_64",
        "accelerators": [{"guestAcceleratorType": "nvidia-tesla-a100", "guestAcceleratorCount": 1}],
    },
}

IMAGES: dict[str, dict[str, Any]] = {
    "ubuntu-2404-v1": {
        "family": "ubuntu-2404-lts-amd64",
        "architecture": "X86_64",
        "features": ["GVNIC", "UEFI_COMPATIBLE", "SEV_SNP_CAPABLE", "TDX_CAPABLE"],
    },
    "ubuntu-2404-arm64-v1": {
        "family": "ubuntu-2404-lts-arm64",
        "architecture": "ARM64",
        "features": ["GVNIC", "UEFI_COMPATIBLE"],
    },
    # Older images say nothing of their architecture.
    "ubuntu-2204-v1": {"family": "ubuntu-2204-lts", "features": ["GVNIC", "UEFI_COMPATIBLE"]},
    "ubuntu-1604-v1": {"family": "ubuntu-1604-lts", "features": ["VIRTIO_SCSI_MULTIQUEUE"]},
}
IMAGE_PROJECT = "ubuntu-os-cloud"

RULES: list[dict[str, Any]] = [
    {
        "name": "cb-allow-ssh",
        "direction": "INGRESS",
        "priority": 1000,
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
        "sourceRanges": ["0.0.0.0/0"],
        "targetTags": ["cb-egress", "cb-isolated"],
    },
    {
        "name": "cb-deny-neighbours",
        "direction": "INGRESS",
        "priority": 900,
        "denied": [{"IPProtocol": "all"}],
        "sourceTags": ["cb-egress", "cb-isolated"],
        "targetTags": ["cb-egress", "cb-isolated"],
    },
    {
        "name": "cb-deny-egress",
        "direction": "EGRESS",
        "priority": 900,
        "denied": [{"IPProtocol": "all"}],
        "destinationRanges": ["0.0.0.0/0"],
        "targetTags": ["cb-isolated"],
    },
]


def _sku(description: str, usage: str, unit: str, nanos: int) -> dict[str, Any]:
    price = {"currencyCode": "USD", "units": str(nanos // 10**9), "nanos": nanos % 10**9}
    return {
        "description": description,
        "category": {"serviceDisplayName": "Compute Engine", "resourceFamily": "Compute", "usageType": usage},
        "serviceRegions": list(ZONES),
        "pricingInfo": [
            {"pricingExpression": {"usageUnit": unit, "tieredRates": [{"startUsageAmount": 0, "unitPrice": price}]}}
        ],
    }


def _family(words: str, core: int, ram: int) -> list[dict[str, Any]]:
    where = "running in Somewhere"
    return [
        _sku(f"{words} Instance Core {where}", "OnDemand", "h", core),
        _sku(f"{words} Instance Ram {where}", "OnDemand", "GiBy.h", ram),
        _sku(f"Spot Preemptible {words} Instance Core {where}", "Preemptible", "h", core // 3),
        _sku(f"Spot Preemptible {words} Instance Ram {where}", "Preemptible", "GiBy.h", ram // 3),
        _sku(f"Commitment v1: {words} Cpu in Somewhere", "Commit1Yr", "h", core // 2),
        _sku(f"{words} Sole Tenancy Instance Core {where}", "OnDemand", "h", core * 2),
    ]


SKUS: list[dict[str, Any]] = [
    *_family("E2", 21_811_590, 2_923_530),
    *_family("N2D AMD", 27_502_000, 3_686_000),
    *_family("C3", 33_982_000, 4_556_000),
    *_family("A2", 31_611_000, 4_237_000),
    _sku("Nvidia Tesla A100 GPU running in Somewhere", "OnDemand", "h", 2_933_908_000),
    _sku(
        "Nvidia Tesla A100 GPU attached to Spot Preemptible VMs running in Somewhere", "Preemptible", "h", 880_172_000
    ),
    _sku("Nvidia Tesla A100 80GB GPU running in Somewhere", "OnDemand", "h", 3_927_900_000),
    *_family("A3", 29_391_000, 2_556_000),
    *_family("C4", 34_650_000, 3_938_000),
    _sku("Nvidia H100 80GB GPU running in Somewhere", "OnDemand", "h", 9_796_554_000),
    _sku("SSD backed Local Storage in Somewhere", "OnDemand", "GiBy.mo", 80_000_000),
    _sku("SSD backed Local Storage attached to Spot Preemptible VMs in Somewhere", "OnDemand", "GiBy.mo", 40_000_000),
    *_family("N2", 31_611_000, 4_237_000),
    _sku("Balanced PD Capacity in Somewhere", "OnDemand", "GiBy.mo", 100_000_000),
    _sku("External IP Charge on a Standard VM", "OnDemand", "h", 5_000_000),
    _sku("External IP Charge on a Spot Preemptible VM", "OnDemand", "h", 2_500_000),
]
