"""What a cloud's page shows as a table is refused where it can sell nothing so, by file, key and mend."""

import re
from pathlib import Path

import pytest

from bootfolder import make_folder
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch

PLUGINS = Path(__file__).parents[2] / "plugins"
OTHER = "00000000-0000-0000-0000-0000000000ff"
FAULTS = [
    (
        "aws",
        'kind = "aws"',
        'kind = "aws"\nsold_as = { eu-west-9 = "europe" }',
        "sold_as names eu-west-9, which is no region of the table: it has eu-central-1, us-east-2",
    ),
    (
        "azure",
        'kind = "azure"',
        'kind = "azure"\nsold_as = { "West Europe" = "europe" }',
        "sold_as names West Europe, which is no region of the table: it has westeurope",
    ),
    (
        "gcp",
        'kind = "gcp"',
        'kind = "gcp"\nsold_as = { europe-west1 = "europe" }',
        "sold_as names europe-west1, which is no region of the table: it has europe-west4, us-central1",
    ),
    (
        "gcp",
        '["europe-west4-b"]',
        '["europe-west9-b"]',
        "tdx_zones: tdx_zones names europe-west9-b, which lies in no region of the table: add its region",
    ),
    (
        "gcp",
        "spot = true",
        'spot = true\nsev_snp_zones = ["europe-west1-c"]',
        "sev_snp_zones: sev_snp_zones names europe-west1-c, which lies in no region of the table",
    ),
    (
        "gcp",
        "confidential = true",
        "confidential = false",
        "tdx_zones: tdx_zones is given, but no image has confidential = true",
    ),
    (
        "azure",
        'subnet = "/subscriptions/00000000-0000-0000-0000-00000000000b',
        f'subnet = "/subscriptions/{OTHER}',
        f"location: location westeurope, network egress: subnet is of subscription {OTHER}",
    ),
    (
        "azure",
        'security_group = "/subscriptions/00000000-0000-0000-0000-00000000000b',
        f'security_group = "/subscriptions/{OTHER}',
        f"location: location westeurope, network egress: security_group is of subscription {OTHER}",
    ),
    (
        "azure",
        "spot = true",
        'spot = true\ncurrency = "usd"',
        "currency: currency 'usd' is not a currency of three capital letters, such as USD",
    ),
    ("aws", 'shapes = ["c7i.*", "m7i.large"]', "shapes = []", "shapes: shapes must be a list of 1 to 256 items"),
]


@pytest.mark.parametrize(("cloud", "line", "other", "says"), FAULTS, ids=[says.split(";")[0] for *_, says in FAULTS])
def test_what_could_sell_nothing_is_refused(cloud, line, other, says, tmp_path, monkeypatch, capsys):
    [table] = re.findall(r"```toml\n(.*?)```", (PLUGINS / cloud / "README.md").read_text(), re.DOTALL)
    assert line in table
    boot = make_folder(tmp_path) / "bridge.toml"
    boot.write_text(boot.read_text().partition("[[backend]]")[0] + table.replace(line, other, 1))
    monkeypatch.chdir(tmp_path)

    assert Exit.CONFIG == dispatch(["config", "check", "--skip-secrets"])
    error = capsys.readouterr().err
    assert f"{boot}: 1 fault\n" in error
    assert f"  backend[0].{says}" in error or f"  backend[0]: {says}" in error


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_a_region_of_the_table_may_be_sold_under_another_word(cloud, tmp_path, monkeypatch):
    [table] = re.findall(r"```toml\n(.*?)```", (PLUGINS / cloud / "README.md").read_text(), re.DOTALL)
    region = re.findall(r"\[\[backend\.(?:region|location)\]\]\nname = \"(.*)\"", table)[0]
    boot = make_folder(tmp_path) / "bridge.toml"
    sold = table.replace(f'kind = "{cloud}"', f'kind = "{cloud}"\nsold_as = {{ {region} = "europe" }}')
    boot.write_text(boot.read_text().partition("[[backend]]")[0] + sold)
    monkeypatch.chdir(tmp_path)

    assert Exit.OK == dispatch(["config", "check", "--skip-secrets"])
