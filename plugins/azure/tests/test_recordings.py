"""What Azure once answered, read through today's SDK; these documents are not ours, so they are not kept here."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from compute_bridge.model.ids import BackendName
from compute_bridge.model.units import UtcMs
from compute_bridge.testing.physics.wire import Response
from compute_bridge_azure.account import Account, Listings, read_time
from compute_bridge_azure.sdk import Arm

BESIDE = Path(__file__).resolve().parents[4] / "shared" / "fixtures"
FIXTURES = Path(os.environ.get("COMPUTE_BRIDGE_FIXTURES", BESIDE)) / "clouds" / "azure_arm"

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="fixtures: set COMPUTE_BRIDGE_FIXTURES to their folder")


def recorded(ending):
    """Return the items of every recorded list or document whose name ends so."""
    found: list[dict[str, Any]] = []
    for path in sorted(FIXTURES.glob(f"*{ending}.json")):
        document = json.loads(path.read_text())
        found += document["value"] if "value" in document else [document]
    return found


@pytest.fixture
def arm(bare):
    arm = Arm(bare.config, bare.tokens.secret, lambda headers: None)
    yield arm
    arm.close()


def serving(world, op, items):
    """Let the fake answer one operation with what was recorded."""
    world.arm._routes = tuple(
        evolve(route, serve=lambda request, words: Response.json({"value": items})) if route.op == op else route
        for route in world.arm._routes
    )


def test_machines_and_parts_of_others_are_read_and_are_none_of_ours(bare, arm):
    machines = recorded("virtualMachines_test_node_1")
    views = [
        machines[0] | {"properties": machines[0]["properties"] | {"instanceView": view}}
        for view in recorded("InstanceView")
    ]
    serving(bare, "ListMachines", machines)
    serving(bare, "ListStatuses", views)
    serving(bare, "ListNic", recorded("networkInterfaces"))
    serving(bare, "ListAddress", recorded("public_ip"))
    serving(bare, "ListDisk", recorded("disks_1"))
    read = Listings(arm.nics(), arm.addresses(), arm.disks(), arm.machines(), arm.statuses(), UtcMs(1))

    assert all((read.nics, read.addresses, read.disks, read.machines, read.statuses))
    seen = Account(BackendName("azure"), "anyone").machines(read)
    assert (seen.machines, seen.loose) == ({}, {})


def test_every_recorded_document_passes_through_the_sdk(bare, arm):
    for ending, op, call in (
        ("virtualMachines_test_node_1", "ListMachines", arm.machines),
        ("networkInterfaces_test_node_1_nic", "ListNic", arm.nics),
        ("publicIPAddresses_test_ip", "ListAddress", arm.addresses),
        ("disks_test_node_disk_1", "ListDisk", arm.disks),
    ):
        items = recorded(ending)
        serving(bare, op, items)

        assert items, ending
        assert [one.get("id") for one in call()] == [one.get("id") for one in items]


def test_a_recorded_time_is_read():
    times = [one["properties"]["timeCreated"] for one in recorded("disks_1")]

    assert times
    assert all(read_time(time) > 1_000_000_000_000 for time in times)
