"""Documents that the vendor really sent, where they are at hand: this repository carries nobody else's."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compute_bridge_gcp.facts import operation_in, region_in, rule_in, seen_in, shape_in
from compute_bridge_gcp.listing import machines_in
from compute_bridge_gcp.sdk import lenient_message_of

BESIDE = Path(__file__).resolve().parents[4] / "shared" / "fixtures"
FIXTURES = Path(os.environ.get("COMPUTE_BRIDGE_FIXTURES", BESIDE)) / "clouds" / "gce"
READERS = {
    "compute#instance": ("Instance", seen_in),
    "compute#operation": ("Operation", operation_in),
    "compute#region": ("Region", region_in),
    "compute#machineType": ("MachineType", shape_in),
    "compute#firewall": ("Firewall", rule_in),
}
AGGREGATED: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "aggregated_instances.json": ("InstanceAggregatedList", "instances", seen_in),
    "aggregated_machineTypes.json": ("MachineTypeAggregatedList", "machine_types", shape_in),
}

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="fixtures: set COMPUTE_BRIDGE_FIXTURES to their folder")


def documents():
    for path in sorted(FIXTURES.glob("*.json")):
        document = json.loads(path.read_text())
        for one in [document, *(document.get("items", []) if isinstance(document.get("items"), list) else [])]:
            if one.get("kind") in READERS:
                yield path.name, one


def read(kind, document):
    # Some recordings carry invented ids that are no numbers; nothing here reads an id.
    return lenient_message_of(kind, {key: value for key, value in document.items() if key not in ("id", "targetId")})


def test_every_recorded_document_is_read():
    kinds = set()
    for _, document in documents():
        kind, reader = READERS[document["kind"]]
        reader(read(kind, document))
        kinds.add(document["kind"])

    assert set(READERS) - {"compute#region"} <= kinds


@pytest.mark.parametrize("name", AGGREGATED)
def test_every_recorded_listing_is_read(name):
    kind, field, reader = AGGREGATED[name]
    page = read(kind, json.loads((FIXTURES / name).read_text()))
    found = [reader(one) for scope in page.items.values() for one in getattr(scope, field)]

    assert found
    assert all(one.zone and one.name for one in found)


def test_a_recorded_instance_is_nobodys():
    page = read("InstanceAggregatedList", json.loads((FIXTURES / "aggregated_instances.json").read_text()))
    seen = [seen_in(one) for scope in page.items.values() for one in scope.instances]

    assert machines_in(seen, is_public=True) == {}


def test_a_recorded_delete_is_told_with_its_target():
    operations = [operation_in(read("Operation", one)) for _, one in documents() if one["kind"] == "compute#operation"]

    assert any(one.kind == "delete" and one.is_done and "/instances/" in one.target for one in operations)
