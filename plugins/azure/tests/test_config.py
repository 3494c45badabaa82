"""What the boot file may not say of a subscription."""

import tomllib

import pytest

from compute_bridge.adapters.strict_toml import structure
from compute_bridge.adapters.toml_scalars import FaultyError
from compute_bridge_azure.config import AzureConfig


@pytest.fixture
def table(readme_table):
    [table] = tomllib.loads(readme_table)["backend"]
    return {key: value for key, value in table.items() if key not in ("name", "kind")}


def read(table):
    return structure(table, AzureConfig, key="backend[0]", folder=None)


def test_the_readmes_table_is_taken(table):
    config = read(table)

    assert [location.name for location in config.locations] == ["westeurope"]
    assert config.locations[0].zones == ("1", "2")
    assert config.confidential


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tenant": "my-company"}, "tenant"),
        ({"principal": None}, "principal"),
        ({"client": ""}, "client-secret needs client and client_secret"),
        ({"credential": "default-chain"}, "default-chain takes neither"),
        ({"credential": "whatever"}, "credential"),
        ({"arm": "http://management.azure.com"}, "https"),
        ({"disk_cost": None}, "disk_cost"),
        ({"disk_cost": 1.5}, "disk_cost"),
        ({"resource_group": "a/b"}, "resource group"),
        ({"networks": ["egress", "isolated"]}, "no network for isolated"),
        ({"spot": False, "on_demand": False}, "neither spot nor on_demand"),
        ({"unknown": 1}, "unknown"),
        ({"disk_type": "UltraSSD_LRS"}, "disk_type"),
    ],
)
def test_a_wrong_table_is_refused_in_words(table, changes, said):
    if "networks" in changes:
        table["location"][0]["network"] = table["location"][0]["network"][:1]
    wrong = {key: value for key, value in (table | changes).items() if value is not None}
    with pytest.raises(FaultyError) as caught:
        read(wrong)

    assert said in str(caught.value)


def test_a_secret_is_a_reference_and_never_in_a_repr(table):
    config = read(table)

    assert config.client_secret == "env:AZURE_CLIENT_SECRET"


def test_locations_and_images_are_named_once(table):
    for key in ("location", "image"):
        with pytest.raises(FaultyError):
            read({**table, key: [*table[key], *table[key]]})
