"""Every machine type that EC2 really has, as moto has collected them, through our reading of shapes."""

from typing import Any

from compute_bridge.model.catalog import CatalogRow
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Region, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge_aws.catalog import Shape


def real_types() -> dict[str, Any]:
    # Each as DescribeInstanceTypes answers it; asking moto's server for all would take it ten seconds.
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    found: dict[str, Any] = INSTANCE_TYPES
    return found


def read(told: dict[str, Any]) -> Shape:
    shape = Shape.read(told, disk_gib=256)
    assert shape is not None, told
    return shape


def test_every_real_machine_type_is_a_shape_that_a_catalog_takes():
    cost = CostBasis("USD", UnitNanos(machine=NanosPerHour(1)), observed_at=UtcMs(1), source="a test")
    shapes = [read(told) for told in real_types().values()]
    rows = [CatalogRow(Region("eu-west-1"), Zone("eu-west-1a"), shape.name, shape.resources, cost) for shape in shapes]

    assert len({row.key for row in rows}) == len(real_types()) >= 1395


def test_every_real_machine_type_is_sold_under_one_architecture_unless_it_is_a_mac():
    of = {name: read(told).architecture.split(",") for name, told in real_types().items()}
    sold = {name: {"x86_64", "arm64"} & set(words) for name, words in of.items()}
    left_out = {name for name, words in sold.items() if not words}

    assert {name.partition(".")[0].partition("-")[0] for name in left_out} == {"mac", "mac1", "mac2"}
    assert len(left_out) == 9
    assert max(map(len, sold.values())) == 1


def test_sixteen_real_machine_types_have_sev_snp():
    having = [name for name, told in real_types().items() if read(told).has_snp]

    assert len(having) == 16
    assert {name.partition(".")[0] for name in having} == {"c6a", "m6a", "r6a"}


def test_a_share_of_a_gpu_counts_as_none():
    told = {name: one for name, one in real_types().items() if "GpuInfo" in one}
    without = {name for name, one in told.items() if not read(one).resources.gpus}

    assert len(told) == 65
    assert {name.partition(".")[0] for name in without} == {"g6f", "gr6f"}
    assert all(one["GpuInfo"]["Gpus"][0]["GpuPartitionSize"] < 1 for name, one in told.items() if name in without)
