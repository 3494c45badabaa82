"""What a size is, by its name and by what Azure says of it."""

import pytest

from compute_bridge.model.resources import Posture, Resources
from compute_bridge_azure.sizes import is_arm, posture_of, read_size
from compute_bridge_azure.testing.market import SIZES, FakeSize


def sized(name, location="westeurope"):
    [size] = [size for size in SIZES if size.name == name]
    return read_size(size.sku(location), location)


@pytest.mark.parametrize(
    ("name", "posture"),
    [
        ("Standard_DC2es_v5", Posture.AZURE_PARAVISOR),
        ("Standard_DC96es_v6", Posture.AZURE_PARAVISOR),
        ("Standard_DC128eds_v6", Posture.AZURE_PARAVISOR),
        ("Standard_EC8es_v5", Posture.AZURE_PARAVISOR),
        ("Standard_EC64eds_v6", Posture.AZURE_PARAVISOR),
        ("Standard_DC4as_v5", Posture.SEV_SNP),
        ("Standard_DC4ads_v6", Posture.SEV_SNP),
        ("Standard_EC32as_v5", Posture.SEV_SNP),
        ("Standard_EC96ias_v5", Posture.SEV_SNP),
        ("Standard_NCC40ads_H100_v5", Posture.SEV_SNP),
        ("Standard_DC4s_v3", Posture.NONE),
        ("Standard_DC2s_v2", Posture.NONE),
        ("Standard_DC4es_v9", Posture.NONE),
        ("Standard_D4es_v5", Posture.NONE),
        ("Standard_E4as_v5", Posture.NONE),
        ("Standard_ND96isr_H100_v5", Posture.NONE),
        ("no size at all", Posture.NONE),
    ],
)
def test_the_posture_follows_from_the_name(name, posture):
    assert posture_of(name) is posture


def test_no_size_of_azure_is_ever_called_tdx():
    found = {read_size(size.sku("westeurope"), "westeurope") for size in SIZES}

    assert Posture.TDX not in {size.posture for size in found if size is not None}


@pytest.mark.parametrize(
    ("name", "arm"),
    [("Standard_D2ps_v5", True), ("Standard_E4pds_v6", True), ("Standard_B2pls_v2", True), ("Standard_NP10s", False)],
)
def test_arm_follows_from_the_name(name, arm):
    assert is_arm(name) is arm


def test_a_size_tells_what_its_guest_has_and_what_its_quota_counts():
    size = sized("Standard_E4-2s_v5")

    assert size.resources(64) == Resources(2000, 32 * 1024, 64)
    assert (size.family, size.vcpus) == ("standardESv5Family", 4)


def test_half_a_gigabyte_is_half_a_gigabyte():
    assert sized("Standard_B1ls").mem_mib == 512


def test_gpus_are_counted():
    assert sized("Standard_NC4as_T4_v3").gpus == 1


@pytest.mark.parametrize(
    ("told", "gib"),
    [({}, 0), ({"temporary_mib": 180_224}, 176), ({"nvme_mib": 112_640}, 110), ({"temporary_mib": 1023}, 0)],
    ids=["none", "a temporary disk", "NVMe disks", "less than one GiB"],
)
def test_disks_of_the_host_are_told_in_whole_gib(told, gib):
    told_by = FakeSize("Standard_D4ds_v5", "standardDDSv5Family", 4, "16", 0.2, **told)
    size = read_size(told_by.sku("westeurope"), "westeurope")

    assert size is not None
    assert size.local_disk_gib == gib


def test_what_is_closed_to_the_subscription_is_not_sold():
    assert sized("Standard_D4s_v5", "northeurope") is None
    assert sized("Standard_D4s_v5", "westeurope") is not None


def test_a_closed_zone_is_left_out():
    assert sized("Standard_D8s_v5").zones == ("1", "3")


def test_generation_1_is_not_sold():
    assert sized("Standard_A1_v2") is None


def test_a_confidential_kind_that_nobody_knows_is_not_sold():
    assert sized("Standard_DC4ns_v9") is None


def test_a_size_whose_name_says_otherwise_is_not_sold():
    # An order is made by the name alone.
    assert read_size(FakeSize("Standard_DC4as_v5", "f", 4, "16", 1.0, confidential="TDX").sku("x"), "x") is None
    assert read_size(FakeSize("Standard_DC4as_v5", "f", 4, "16", 1.0).sku("x"), "x") is None


@pytest.mark.parametrize(
    "broken",
    [
        {"resourceType": "disks"},
        {"capabilities": None},
        {"capabilities": [{"name": "vCPUs", "value": "many"}]},
        {"capabilities": [{"name": "HyperVGenerations", "value": "V2"}, {"name": "vCPUs", "value": "2"}]},
    ],
)
def test_what_is_not_understood_is_left_out(broken):
    assert read_size(SIZES[0].sku("westeurope") | broken, "westeurope") is None


def test_locations_are_the_same_however_they_are_written():
    sku = SIZES[0].sku("West Europe")

    size = read_size(sku, "westeurope")

    assert size is not None
    assert size.zones == ("1", "2", "3")
