"""The boot file in the README is one that the bridge takes, and the page says what is so."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from compute_bridge.adapters.strict_toml import structure
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge_gcp.config import DEFAULT_CHAIN, GcpConfig
from compute_bridge_gcp.policy import ROLE_ID, role, wanted_rules

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


def test_the_readmes_commands_set_up_a_project(tmp_path):
    # What gcloud would be called with, a line a call, and whether the file of the role is there and is JSON.
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text('#!/bin/sh\necho "$@" >> calls\n')
    gcloud.chmod(0o755)
    path = os.pathsep.join([str(gcloud.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    commands = re.findall(r"^\$ (.*)$", README, re.MULTILINE)
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, check=True)
    create, bind, *rules = (tmp_path / "calls").read_text().splitlines()

    assert commands[-1] == "sh setup.sh"
    assert role() == json.loads((tmp_path / "role.json").read_text())
    assert create == f"iam roles create {ROLE_ID} --project=acme-compute --file=role.json"
    account = "--member=serviceAccount:bridge@acme-compute.iam.gserviceaccount.com"
    assert bind.startswith(
        f"projects add-iam-policy-binding acme-compute {account} --role=projects/acme-compute/roles/"
    )
    named = [rule.name for rule in wanted_rules(tuple(NetworkPolicy), ssh_port=22)]
    assert named == [rule.split()[3] for rule in rules]
