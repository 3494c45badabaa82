"""The policy is enough, and no more than what was meant; the command prints it."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from compute_bridge.adapters.strict_toml import structure
from compute_bridge.api import CommandContext
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.ports.errors import BootError
from compute_bridge_aws.command import Tables, aws
from compute_bridge_aws.config import AwsConfig
from compute_bridge_aws.policy import policy
from compute_bridge_aws.sdk import Operation
from compute_bridge_aws.testing.world import config

TABLE = """
[[backend]]
name = "a"
kind = "aws"
owner = "operator-1"
shapes = ["t3.*"]
account_id = "123456789012"
access_key_id = "env:A"
secret_access_key = "env:B"
address_cost = 5_000_000
egress_cost = 90_000_000
[[backend.region]]
name = "eu-west-1"
subnets = { eu-west-1a = "subnet-0aaaaaaaaaaaaaaa1" }
images = { debian = "ami-0de0000000000000e" }
"""


def actions(document: dict[str, Any], effect: str = "Allow") -> set[str]:
    found: set[str] = set()
    for one in document["Statement"]:
        if one["Effect"] == effect:
            found |= {one["Action"]} if isinstance(one["Action"], str) else set(one["Action"])
    return found


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_that_is_called_is_allowed(operation: Operation):
    assert operation.action in actions(policy(evolve(config(), metrics=True)))


def test_nothing_is_allowed_that_is_not_called():
    called = {operation.action for operation in Operation}

    assert actions(policy(evolve(config(), metrics=True))) - called == {"ec2:CreateTags"}


def test_no_role_is_handed_to_a_guest():
    assert actions(policy(config()), "Deny") == {"iam:PassRole"}


def test_metrics_are_read_only_where_the_table_wants_them():
    assert "cloudwatch:GetMetricData" not in actions(policy(config()))


def test_what_changes_something_is_held_to_the_owner_or_to_the_table():
    statements = {one["Sid"]: one for one in policy(config())["Statement"]}
    owned = {"StringEquals": {"aws:ResourceTag/cb-owner": "operator-1"}}
    born = {"StringEquals": {"aws:RequestTag/cb-owner": "operator-1"}}

    assert statements["EndOwn"]["Condition"] == statements["KeepOwnGroups"]["Condition"] == owned
    assert statements["RunTagged"]["Condition"] == statements["MakeGroups"]["Condition"] == born
    assert "arn:aws:ec2:eu-west-1::image/ami-0de0000000000000e" in statements["RunFrom"]["Resource"]


def test_a_key_of_the_operator_s_may_be_used():
    key = "arn:aws:kms:eu-west-1:123456789012:key/0"
    statements = {one["Sid"]: one for one in policy(evolve(config(), kms_key=key))["Statement"]}

    assert statements["EncryptDisks"]["Resource"] == statements["LendTheKey"]["Resource"] == key


def context(arguments: list[str], said: list[str]) -> CommandContext:
    import tomllib

    def never(*_: Any) -> Any:
        raise AssertionError("the command needs no such thing")

    return CommandContext(
        arguments=arguments,
        clock=never,  # type: ignore[arg-type]
        load=lambda path, cls: structure(tomllib.loads(path.read_text()), cls, key="", folder=path.parent),
        kind=never,
        structure=lambda table, cls, key: structure(table, cls, key=key, folder=None),
        open_network=never,
        open_shuffle=never,
        quote_verifier=never,
        read_secret=never,
        say=said.append,
    )


def test_the_command_prints_the_policy_of_the_one_backend(tmp_path: Path):
    file = tmp_path / "bridge.toml"
    file.write_text(TABLE)
    said: list[str] = []
    code = aws(context(["policy", "--config", str(file)], said))
    loaded: Tables = context([], []).load(file, Tables)
    table: AwsConfig = structure(loaded.backends[0].settings, AwsConfig, key="backend[0]", folder=None)

    assert code == 0
    assert json.loads("\n".join(said)) == policy(table)


def test_the_command_wants_to_know_which_of_two_backends(tmp_path: Path):
    file = tmp_path / "bridge.toml"
    file.write_text(TABLE + TABLE.replace('"a"', '"b"'))

    with pytest.raises(BootError, match="of: a, b; name it by --backend"):
        aws(context(["policy", "--config", str(file)], []))
    assert aws(context(["policy", "--config", str(file), "--backend", "b"], [])) == 0


def test_the_boot_file_may_be_named_by_flag_or_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "by-variable.toml").write_text(TABLE)
    (tmp_path / "by-flag.toml").write_text(TABLE.replace("operator-1", "operator-2"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPUTE_BRIDGE_CONFIG", "by-variable.toml")

    assert dispatch(["aws", "policy"]) == Exit.OK
    assert "operator-1" in capsys.readouterr().out
    assert dispatch(["aws", "policy", "--config", "by-flag.toml"]) == Exit.OK
    assert "operator-2" in capsys.readouterr().out


def test_a_wrong_table_is_told_with_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "bridge.toml"
    file.write_text(TABLE.replace('["t3.*"]', "[]").replace('"123456789012"', '"1"'))

    assert dispatch(["aws", "policy", "--config", str(file)]) == Exit.CONFIG
    error = capsys.readouterr().err
    assert f"{file}: 2 faults\n" in error
    assert "  backend[0].shapes: shapes must be a list of 1 to 256 items" in error
    assert "  backend[0].account_id: " in error
