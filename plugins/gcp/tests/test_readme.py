"""The boot file in the README is one that the bridge takes, and the page says what is so."""

import re
import tomllib
from pathlib import Path

from compute_bridge.adapters.strict_toml import structure
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge_gcp.config import DEFAULT_CHAIN, GcpConfig
from compute_bridge_gcp.policy import wanted_rules

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_readmes_table_is_taken():
    [text] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    [table] = tomllib.loads(text)["backend"]
    settings = {key: value for key, value in table.items() if key not in ("name", "kind")}
    config = structure(settings, GcpConfig, key="backend[0]", folder=None)

    assert ["europe-west4", "us-central1"] == [region.name for region in config.regions]
    assert config.image_called("ubuntu-24.04") is not None


def test_the_readme_quotes_the_words_and_names_every_rule():
    assert f'default_chain = "{DEFAULT_CHAIN}"' in README
    assert all(rule.name in README for rule in wanted_rules(tuple(NetworkPolicy), ssh_port=22))
