"""The host's own commands over this backend: the boot file, the stored catalog, and what doctor tells."""

import json

import pytest

from bootfolder import make_folder
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch

BACKEND = """
[[backend]]
name = "gcp-1"
kind = "gcp"
owner = "cb-tests"
project = "{config.project}"
service_account = "{config.service_account}"
credentials = "file:gcp.json"
shapes = ["e2-*", "n2d-*", "c3-*"]
spot = true
currency = "EUR"
egress_cost = 120_000_000
compute_endpoint = "{config.compute_endpoint}"
billing_endpoint = "{config.billing_endpoint}"
resource_endpoint = "{config.resource_endpoint}"
[[backend.region]]
name = "europe-west4"
subnetwork = "cb-subnet"
[[backend.image]]
name = "ubuntu-24.04"
project = "ubuntu-os-cloud"
family = "ubuntu-2404-lts-amd64"
"""


@pytest.fixture
def run(bare_world, tmp_path, monkeypatch, capsys):
    boot = make_folder(tmp_path) / "bridge.toml"
    boot.write_text(boot.read_text().partition("[[backend]]")[0] + BACKEND.format(config=bare_world.config))
    (tmp_path / "gcp.json").write_bytes(bare_world.key)
    (tmp_path / "gcp.json").chmod(0o600)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = dispatch([*arguments, "--json"])
        said = capsys.readouterr()
        assert said.out, said.err
        return code, json.loads(said.out)

    return run


def test_a_refresh_stores_every_row_and_doubts_none(run, tmp_path):
    code, [told] = run("catalog", "refresh")

    assert Exit.OK == code
    assert (16, []) == (told["rows"], told["findings"])
    stored = json.loads((tmp_path / "state" / "catalog" / "gcp-1.json").read_text())
    assert {"europe-west4"} == {row["region"] for row in stored["rows"]}


def test_doctor_tells_the_identity_first_and_that_all_is_well(run, bare_world):
    _, told = run("doctor")
    found = {finding["check"]: finding["verdict"] for finding in told[0]["findings"]}

    assert next(iter(found)) == "identity"
    assert {"ok"} == set(found.values())
    assert bare_world.physics.count(changes=True) == 0
