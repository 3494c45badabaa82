"""The fake refuses what the vendor refuses, and a plugin that could not find its machines again."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest

from compute_bridge.cloud.catalog_offers import CatalogOffers
from compute_bridge.model.ids import BackendName
from compute_bridge.model.resources import Region, Zone
from compute_bridge.model.units import UtcMs
from compute_bridge.testing.orders import make_order, needs_of, new_token
from compute_bridge_gcp.body import machine_body, request_id
from compute_bridge_gcp.catalog import catalog_of
from compute_bridge_gcp.sdk import Sdk, answer_of, message_of
from compute_bridge_gcp.testing.world import GcpWorld

NOW = UtcMs(1_790_000_000_000)
RUN_MS = 30_000


class Plugin:
    """A plugin that can be made to do wrong: a right body, and the calls to send it or a wrong one with."""

    def __init__(self, world: GcpWorld) -> None:
        self.world = world
        self.sdk = Sdk(world.config, world.key)
        catalog = catalog_of(
            BackendName("b"), world.config, self.sdk.zones(), self.sdk.shapes()[0], self.sdk.skus(), observed_at=NOW
        )
        offers = [offer for _, offer in CatalogOffers(BackendName("b"), world.config, ("ubuntu-24.04",), catalog).pairs]
        [self.offer, *_] = [one for one in offers if one.shape == "c3-standard-4"]
        self.order = make_order(
            self.offer,
            new_token(),
            needs=needs_of(self.offer),
            image=world.image(),
            user="guest",
            now=UtcMs(world.clock.utc_ms()),
        )
        region = world.config.region_of(self.offer.zone)
        assert region is not None
        self.body = machine_body(world.config, region, world.config.images[0], self.order, now_ms=world.clock.utc_ms())

    def insert(self, request: str | None = None) -> Any:
        given = request_id(self.order.token) if request is None else request
        return self.sdk.insert(self.offer.zone, given, self.body)

    def refused(self, request: str | None = None) -> tuple[int, str]:
        with pytest.raises(Exception) as caught:
            self.insert(request)
        answer = answer_of(caught.value)
        assert answer is not None, caught.value
        assert self.world.physics.made() == ()
        return answer.status, answer.code


def code_of(error: Exception) -> str:
    answer = answer_of(error)
    return "" if answer is None else answer.code


@pytest.fixture
def plugin(bare_world):
    return Plugin(bare_world)


def test_a_right_plugin_is_served(plugin):
    assert "insert" == plugin.insert().kind
    assert ["disk"] == [one.kind for one in plugin.world.physics.leftovers()]


def test_the_same_request_id_gets_the_same_operation(plugin):
    assert plugin.insert().name == plugin.insert().name
    assert len(plugin.world.physics.made()) == 1


def test_another_request_id_meets_the_name(plugin):
    plugin.insert()
    with pytest.raises(Exception) as caught:
        plugin.insert(str(uuid4()))

    assert code_of(caught.value) == "alreadyExists"


@pytest.mark.parametrize(
    ("request_", "reason"), [("", "required"), ("no uuid", "invalid"), (str(UUID(int=0)), "invalid")]
)
def test_a_plugin_that_skips_the_request_id_is_refused(plugin, request_, reason):
    assert (400, reason) == plugin.refused(request_)


def test_a_plugin_that_forgets_a_label_is_refused(plugin):
    for label in list(plugin.body["labels"]):
        kept = plugin.body["labels"].pop(label)
        assert (400, "required") == plugin.refused()
        plugin.body["labels"][label] = kept


def test_a_plugin_whose_disk_has_no_labels_is_refused(plugin):
    plugin.body["disks"][0]["initialize_params"].pop("labels")

    assert (400, "required") == plugin.refused()


def test_a_disk_that_outlives_its_machine_is_a_leftover(plugin):
    plugin.body["disks"][0]["auto_delete"] = False
    plugin.insert()
    plugin.sdk.delete(plugin.offer.zone, plugin.order.ownership.name, str(uuid4()))
    anyio.run(plugin.world.clock.sleep_ms, plugin.world.physics.ending_ms + 1)

    assert plugin.world.physics.existing() == ()

    assert ["disk"] == [one.kind for one in plugin.world.physics.leftovers()]


def shown_later(plugin, ms):
    """Return the one machine as a listing shows it after a while, None for none."""
    anyio.run(plugin.world.clock.sleep_ms, ms)
    return next((shown for _, shown in plugin.world.fake.instances.matching("")), None)


def test_a_machine_that_runs_is_deleted_by_its_max_run_duration_and_says_when(plugin):
    plugin.body["scheduling"]["max_run_duration"] = {"seconds": RUN_MS // 1000}
    plugin.insert()
    new = shown_later(plugin, 0)
    shown = shown_later(plugin, plugin.world.physics.boot_ms)
    told = datetime.fromisoformat(shown["resourceStatus"]["scheduling"]["terminationTimestamp"])

    assert "resourceStatus" not in new
    assert plugin.world.physics.made()[0].deadline_ms == told.timestamp() * 1000
    assert shown_later(plugin, RUN_MS + plugin.world.physics.ending_ms) is None


def test_a_machine_that_was_powered_off_forgets_its_max_run_duration(plugin):
    plugin.body["scheduling"]["max_run_duration"] = {"seconds": RUN_MS // 1000}
    plugin.insert()
    shown_later(plugin, plugin.world.physics.boot_ms)
    plugin.world.physics.shut_down(plugin.world.physics.made()[0].id)
    shown = shown_later(plugin, 2 * RUN_MS)

    assert ("TERMINATED", False) == (shown["status"], "resourceStatus" in shown)
    assert shown["scheduling"]["maxRunDuration"] == {"seconds": str(RUN_MS // 1000)}
    assert ["disk"] == [one.kind for one in plugin.world.physics.resources()]


@pytest.mark.parametrize("image", ["ubuntu-1604-v1", "ubuntu-2404-arm64-v1"])
def test_an_image_that_does_not_boot_in_the_machine_is_refused(plugin, image):
    plugin.body["confidential_instance_config"] = {}
    link = f"projects/ubuntu-os-cloud/global/images/{image}"
    plugin.body["disks"][0]["initialize_params"]["source_image"] = link

    assert (400, "invalid") == plugin.refused()


@pytest.mark.parametrize(
    ("path", "value", "answer"),
    [
        (("scheduling", "on_host_maintenance"), "MIGRATE", (400, "invalid")),
        (("scheduling", "provisioning_model"), "CHEAP", (400, "invalid")),
        (("scheduling", "max_run_duration"), {"seconds": 29}, (400, "invalid")),
        (("scheduling", "max_run_duration"), {"seconds": 120 * 86400 + 1}, (400, "invalid")),
        (("scheduling", "instance_termination_action"), "", (400, "required")),
        (("confidential_instance_config", "confidential_instance_type"), "SEV_SNP", (400, "invalid")),
        (("labels", "cb-token"), "UPPER", (400, "invalid")),
        (("name",), "Under_score", (400, "invalid")),
        (("machine_type",), "zones/europe-west4-a/machineTypes/none-1", (404, "notFound")),
        (("machine_type",), "", (400, "required")),
        (("disks",), [], (400, "required")),
        (("network_interfaces",), [], (400, "required")),
        (("service_accounts",), [{"email": "default"}], (403, "forbidden")),
    ],
)
def test_what_the_vendor_refuses_is_refused(plugin, path, value, answer):
    target = plugin.body
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value

    assert answer == plugin.refused()


def test_an_image_that_is_not_there_is_refused(plugin):
    plugin.body["disks"][0]["initialize_params"]["source_image"] = "projects/ubuntu-os-cloud/global/images/family/none"

    assert (404, "notFound") == plugin.refused()


@pytest.mark.parametrize(
    ("shape", "kind", "is_made"),
    [
        ("c3-standard-4", "TDX", True),
        ("a3-highgpu-1g", "TDX", True),
        ("n2d-standard-2", "SEV_SNP", True),
        ("c3-standard-4-lssd", "TDX", False),
        ("n2d-standard-2", "TDX", False),
        ("c3-standard-4", "SEV_SNP", False),
        ("c3-standard-4", "CCA", False),
    ],
)
def test_what_is_confidential_is_made_of_the_shapes_that_the_vendor_has_for_it(plugin, shape, kind, is_made):
    plugin.body["machine_type"] = f"zones/{plugin.offer.zone}/machineTypes/{shape}"
    plugin.body["confidential_instance_config"] = {"confidential_instance_type": kind}
    if is_made:
        assert plugin.insert().codes == ()
    else:
        assert (400, "invalid") == plugin.refused()


def test_an_image_without_the_feature_boots_no_trust_domain(plugin):
    old = "projects/ubuntu-os-cloud/global/images/ubuntu-2204-v1"
    plugin.body["disks"][0]["initialize_params"]["source_image"] = old

    assert (400, "invalid") == plugin.refused()


def test_an_unknown_field_and_an_unknown_parameter_are_refused(plugin):
    url = f"{plugin.world.fake.url}/compute/v1/projects/{plugin.world.config.project}/zones/europe-west4-a/instances"
    for parameters, body in [({"requestId": str(uuid4())}, {"nme": "cb-1"}), ({"request_id": "x"}, {})]:
        with pytest.raises(Exception, match="400") as caught:
            plugin.sdk._rest("POST", url, params=parameters, json=body)
        assert code_of(caught.value) == "invalid"


def test_a_stranger_s_token_is_refused(plugin):
    plugin.world.fake.account = "another@project.iam.gserviceaccount.com"

    assert (401, "http-401") == plugin.refused()


def test_what_the_fake_shows_has_no_field_that_the_vendor_has_not(plugin):
    plugin.insert()
    fake = plugin.world.fake
    for _, shown in fake.instances.matching(""):
        message_of("Instance", shown)
    for kind, documents in {
        "Region": fake.shelf.regions(),
        "Zone": fake.shelf.zones(),
        "MachineType": [shape for _, shape in fake.shelf.machine_types()],
        "Firewall": fake.shelf.firewalls(),
        "Image": [fake.shelf.image("ubuntu-os-cloud", family="ubuntu-2404-lts-amd64")],
        "Subnetwork": [fake.shelf.subnetwork(Region("europe-west4"), "cb-subnet")],
        "Operation": fake.operations.all(Zone("europe-west4-a"), ""),
    }.items():
        for document in documents:
            message_of(kind, document)
    assert all(isinstance(one["id"], str) for one in fake.operations.all(Zone("europe-west4-a"), ""))
