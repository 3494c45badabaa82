"""A table that cannot be kept is refused, in words that name the mend."""

from typing import Any

import pytest
from attrs import evolve, fields

from compute_bridge.model.boot import SecretRef
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.resources import Posture, Region
from compute_bridge.model.units import Milliseconds, Nanos, NanosPerHour
from compute_bridge_gcp.config import DEFAULT_CHAIN, GcpConfig, GcpImage, GcpRegion
from compute_bridge_gcp.testing.world import config_for

TABLE = config_for("http://127.0.0.1:1")


def refused(match: str, **changes: Any) -> None:
    with pytest.raises(ValueError, match=match):
        evolve(TABLE, **changes)


def test_a_table_gives_credentials_or_says_that_it_takes_what_is_there():
    refused(f'credentials must be given, or say default_chain = "{DEFAULT_CHAIN}"', credentials="")
    refused("credentials or default_chain, not both", default_chain=DEFAULT_CHAIN)
    refused("is not 'use the default", credentials="", default_chain="yes")

    assert DEFAULT_CHAIN == evolve(TABLE, credentials=SecretRef(""), default_chain=DEFAULT_CHAIN).default_chain


def test_an_owner_is_a_word_that_a_label_takes():
    refused("owner", owner="with.dot")


def test_no_token_leaves_in_the_clear():
    refused("compute_endpoint", compute_endpoint="http://compute.example.com")


def test_confidential_machines_have_a_cost_of_their_own():
    refused("say how much in confidential_cost", confidential_cost=UnitNanos())


def test_a_table_says_what_egress_costs():
    others = {one.name: getattr(TABLE, one.name) for one in fields(GcpConfig) if one.name != "egress_cost"}
    with pytest.raises(TypeError, match="egress_cost"):
        GcpConfig(**others)
    refused("egress_cost", egress_cost=Nanos(-1))


def test_no_lease_runs_beyond_what_the_vendor_limits():
    refused("max_duration_ms", max_duration_ms=Milliseconds(120 * 24 * 3_600_000))


def test_a_zone_lies_in_its_region():
    with pytest.raises(ValueError, match="does not lie in europe-west4"):
        GcpRegion(name=Region("europe-west4"), subnetwork="s", zones=("us-central1-a",))


def test_two_regions_are_told_apart():
    refused("stands twice", regions=(TABLE.regions[0], TABLE.regions[0]))


def test_an_image_is_a_family_or_one_image():
    with pytest.raises(ValueError, match="say either family or image"):
        GcpImage(name="d", project="ubuntu-os-cloud", family="ubuntu-2404-lts-amd64", image="ubuntu-2404-v1")


@pytest.mark.parametrize(
    ("zone", "shape", "posture"),
    [
        ("europe-west4-a", "c3-standard-4", Posture.TDX),
        ("europe-west4-b", "c3-standard-4", Posture.NONE),
        ("europe-west4-a", "c3-highmem-4", Posture.NONE),
        ("europe-west4-a", "n2d-standard-2", Posture.SEV_SNP),
        ("europe-west4-b", "n2d-standard-2", Posture.NONE),
        ("europe-west4-a", "e2-standard-2", Posture.NONE),
    ],
)
def test_a_posture_is_the_shapes_and_the_zones(zone, shape, posture):
    assert posture is TABLE.posture(zone, shape)


def test_a_cost_is_whole_nanos():
    assert NanosPerHour(5_000_000) == TABLE.confidential_cost.vcpu
