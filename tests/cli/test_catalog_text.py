"""A row of a catalog for people."""

from attrs import evolve

from compute_bridge.cli.catalog_text import row_line
from compute_bridge.model.catalog import CatalogRow
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Region, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs

COST = CostBasis("USD", UnitNanos(machine=NanosPerHour(96_000_000)), UtcMs(1), "price list")
ROW = CatalogRow(Region("eu-1"), Zone("eu-1a"), "a", Resources(4000, 16384, 100, 1), COST)


def test_disks_of_the_host_are_told_beside_the_disk_that_is_sold():
    bare, more = row_line(ROW), row_line(evolve(ROW, local_disk_gib=116))

    assert "100 GiB, 1 GPU" in bare
    assert "100 GiB, 116 GiB local, 1 GPU" in more
