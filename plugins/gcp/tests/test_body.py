"""The body of the one call that makes a machine."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from attrs import evolve

from compute_bridge.cloud.catalog_offers import CatalogOffers
from compute_bridge.cloud.tags import NARROW
from compute_bridge.model.ids import BackendName, Token
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.model.units import UtcMs
from compute_bridge.testing.orders import make_order, needs_of
from compute_bridge_gcp.body import GUEST_GRACE_MS, machine_body, request_id, run_s
from compute_bridge_gcp.catalog import catalog_of
from compute_bridge_gcp.config import MAX_RUN_S, MIN_RUN_S
from compute_bridge_gcp.facts import ShapeSeen, Sku
from compute_bridge_gcp.testing.world import config_for

NOW = UtcMs(1_790_000_000_000)
CONFIG = config_for("http://127.0.0.1:1")
TOKEN = Token(bytes(range(32)))
REGIONS = ("europe-west4",)
SKUS = [
    Sku("C3 Instance Core running in X", "OnDemand", REGIONS, "h", 34_000_000),
    Sku("C3 Instance Ram running in X", "OnDemand", REGIONS, "GiBy.h", 4_500_000),
    Sku("Balanced PD Capacity", "OnDemand", REGIONS, "GiBy.mo", 100_000_000),
    Sku("External IP Charge on a Standard VM", "OnDemand", REGIONS, "h", 5_000_000),
]


def ordered(**changes):
    shape = ShapeSeen("europe-west4-a", "c3-standard-4", 4, 16384, {}, "x86_64", local_disks=0, is_deprecated=False)
    catalog = catalog_of(BackendName("b"), CONFIG, ["europe-west4-a"], [shape], SKUS, observed_at=NOW)
    [(_, offer)] = CatalogOffers(BackendName("b"), CONFIG, ("ubuntu-24.04",), catalog).pairs
    needs = evolve(needs_of(offer), **changes)
    return make_order(offer, TOKEN, needs=needs, image=ImageRef("vm:ubuntu-24.04"), user="guest", now=NOW)


def body(config=CONFIG, now_ms=NOW, **changes):
    return machine_body(config, config.regions[0], config.images[0], ordered(**changes), now_ms=now_ms)


def metadata(made):
    return {item["key"]: item["value"] for item in made["metadata"]["items"]}


def test_the_same_token_has_the_same_request_id_and_another_has_another():
    assert request_id(TOKEN) == request_id(Token(bytes(range(32))))
    assert request_id(TOKEN) != request_id(Token(bytes(32)))
    assert UUID(request_id(Token(bytes(32)))).int != 0


def test_the_same_order_makes_the_same_body():
    assert body() == body()


@pytest.mark.parametrize(
    ("left_ms", "seconds"),
    [(3_600_000, 3600), (3_600_001, 3601), (1, MIN_RUN_S), (-5, MIN_RUN_S), (10**12, MAX_RUN_S)],
)
def test_the_run_is_what_is_left_in_whole_seconds_rounded_up(left_ms, seconds):
    order = ordered()

    assert seconds == run_s(order, now_ms=order.ends_at - left_ms)


def test_the_machine_ends_by_the_vendors_hand_and_is_never_moved_or_restarted():
    assert body()["scheduling"] == {
        "max_run_duration": {"seconds": 3600},
        "instance_termination_action": "DELETE",
        "on_host_maintenance": "TERMINATE",
        "automatic_restart": False,
        "provisioning_model": "STANDARD",
    }


def test_labels_hold_what_a_label_takes_and_metadata_the_rest():
    made = body()

    assert set(made["labels"]) == set(NARROW)
    assert {"cb-offer", "cb-user", "cb-host-key"} < metadata(made).keys()
    assert all(len(value) <= 63 for value in made["labels"].values())
    assert made["disks"][0]["initialize_params"]["labels"] == made["labels"]


def test_nobody_but_the_requester_logs_in_and_no_identity_goes_along():
    made = body()
    kept = metadata(made)

    assert made["service_accounts"] == []
    assert ("TRUE", "FALSE", "FALSE") == tuple(
        kept[key] for key in ("block-project-ssh-keys", "enable-oslogin", "serial-port-enable")
    )


def test_the_guests_own_timer_is_a_second_layer_after_the_vendors():
    document = json.loads(metadata(body())["user-data"].removeprefix("#cloud-config\n"))
    [timer] = [file["content"] for file in document["write_files"] if file["path"].endswith(".timer")]
    moment = datetime.fromtimestamp((NOW + 3_600_000 + GUEST_GRACE_MS) / 1000, UTC)

    assert f"OnCalendar={moment:%Y-%m-%d %H:%M:%S} UTC" in timer


@pytest.mark.parametrize(
    ("policy", "tag"), [(NetworkPolicy.EGRESS, "cb-egress"), (NetworkPolicy.ISOLATED, "cb-isolated")]
)
def test_a_policy_is_a_network_tag(policy, tag):
    assert [tag] == body(network=policy)["tags"]["items"]


def test_a_machine_without_a_public_address_asks_for_none():
    assert "access_configs" in body()["network_interfaces"][0]
    assert "access_configs" not in body(evolve(CONFIG, public_address=False))["network_interfaces"][0]


def test_the_disk_goes_with_the_machine_and_is_as_large_as_ordered_or_as_the_image_needs():
    small, large = body(), body(evolve(CONFIG, images=(evolve(CONFIG.images[0], disk_gib=500),)))

    assert [64, 500] == [one["disks"][0]["initialize_params"]["disk_size_gb"] for one in (small, large)]
    assert small["disks"][0]["auto_delete"] is True
