"""The fake refuses what EC2 and the house refuse: a plugin that is careless does not pass."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from attrs import evolve

from compute_bridge.cloud.tags import OWNER
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.testing.physics.wire import Request
from compute_bridge_aws.group import Rules
from compute_bridge_aws.metrics import metric_queries
from compute_bridge_aws.sdk import Access, Operation, Sdk, told_by
from compute_bridge_aws.testing.stock import IMAGES, OLD_IMAGES, SUBNETS, VPCS
from compute_bridge_aws.testing.world import KEY_ID, SECRET, AwsWorld
from compute_bridge_aws.testing.world import TOKEN as SESSION

EU = "eu-west-1"
TOKEN = "a" * 52


@pytest.fixture
def aws(bare: AwsWorld, sdk: Callable[[AwsWorld], Sdk]) -> Sdk:
    return sdk(bare)


def group(aws: Sdk) -> str:
    tags = [{"Key": OWNER, "Value": "operator-1"}]
    specification = [{"ResourceType": "security-group", "Tags": tags}]
    request = {"GroupName": "g", "Description": "d", "VpcId": VPCS[EU], "TagSpecifications": specification}
    return aws.make_group(EU, request)


def request(aws: Sdk, **changes: Any) -> dict[str, Any]:
    tags = [{"Key": OWNER, "Value": "operator-1"}, {"Key": "cb-token", "Value": TOKEN}]
    nic = {
        "DeviceIndex": 0,
        "SubnetId": SUBNETS["eu-west-1a"],
        "Groups": [group(aws)],
        "AssociatePublicIpAddress": True,
        "DeleteOnTermination": True,
    }
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "DeleteOnTermination": True}}
    kinds = ("instance", "volume", "network-interface")
    whole = {
        "ClientToken": TOKEN,
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": IMAGES[EU],
        "InstanceType": "c6a.large",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "NetworkInterfaces": [nic],
        "BlockDeviceMappings": [disk],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in kinds],
    } | changes
    return {key: value for key, value in whole.items() if value is not None}


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:
        call()
    told = told_by(caught.value)
    assert told is not None, caught.value
    return told.code


def test_a_whole_request_starts_a_machine(aws: Sdk, bare: AwsWorld):
    made = aws.run(EU, request(aws))

    assert [made["InstanceId"]] == [machine.id for machine in bare.physics.existing()]
    assert {"volume", "network-interface"} == {one.kind for one in bare.physics.leftovers()}


def test_a_plugin_that_skips_the_token_is_refused(aws: Sdk, bare: AwsWorld):
    assert refused(lambda: aws.run(EU, request(aws, ClientToken=None))) == "InvalidParameterValue"
    assert bare.physics.existing() == ()


@pytest.mark.parametrize("kind", ["instance", "volume", "network-interface"])
def test_a_plugin_that_forgets_the_tags_of_something_is_refused(aws: Sdk, kind: str):
    whole = request(aws)
    some = [one for one in whole["TagSpecifications"] if one["ResourceType"] != kind]
    expected = "InvalidParameterValue" if kind == "instance" else "UnauthorizedOperation"

    assert refused(lambda: aws.run(EU, whole | {"TagSpecifications": some})) == expected


def test_a_plugin_that_tags_one_thing_otherwise_is_refused(aws: Sdk):
    whole = request(aws)
    whole["TagSpecifications"][1] = {"ResourceType": "volume", "Tags": [{"Key": OWNER, "Value": "operator-1"}]}

    assert refused(lambda: aws.run(EU, whole)) == "InvalidParameterValue"


def test_a_plugin_that_names_another_owner_is_refused(aws: Sdk):
    whole = request(aws)
    for one in whole["TagSpecifications"]:
        one["Tags"] = [{"Key": OWNER, "Value": "operator-2"}, {"Key": "cb-token", "Value": TOKEN}]

    assert refused(lambda: aws.run(EU, whole)) == "UnauthorizedOperation"


@pytest.mark.parametrize("left", ["volume", "network-interface"])
def test_what_a_plugin_leaves_behind_is_counted(aws: Sdk, bare: AwsWorld, left: str):
    whole = request(aws)
    settings = whole["BlockDeviceMappings"][0]["Ebs"] if left == "volume" else whole["NetworkInterfaces"][0]
    settings["DeleteOnTermination"] = False
    aws.terminate(EU, aws.run(EU, whole)["InstanceId"])
    bare.physics.ending_ms = 0

    until_gone(bare)
    assert [left] == [one.kind for one in bare.physics.leftovers()]


def until_gone(world: AwsWorld) -> None:
    while world.physics.existing():
        pass


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageId": "ami-00000000"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "t4g.micro"}, "InvalidParameterValue"),
        ({"InstanceType": "m5.large"}, "Unsupported"),
        ({"InstanceType": "no.such"}, "InvalidParameterValue"),
        ({"InstanceType": "m7i.large", "CpuOptions": {"AmdSevSnp": "enabled"}}, "InvalidParameterCombination"),
        ({"ImageId": OLD_IMAGES[EU], "CpuOptions": {"AmdSevSnp": "enabled"}}, "InvalidParameterCombination"),
        ({"MetadataOptions": {"HttpTokens": "optional"}}, "UnauthorizedOperation"),
        ({"MetadataOptions": None}, "UnauthorizedOperation"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {}}]}, "UnauthorizedOperation"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {}}]}, "InvalidBlockDeviceMapping"),
        (
            {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeSize": 7}}]},
            "InvalidBlockDeviceMapping",
        ),
        ({"IamInstanceProfile": {"Name": "admin"}}, "UnauthorizedOperation"),
        ({"SecurityGroupIds": ["sg-1"]}, "InvalidParameterCombination"),
        ({"ClientToken": "a" * 65}, "InvalidParameterValue"),
        ({"UserData": "x" * 16_385}, "InvalidParameterValue"),
        ({"InstanceMarketOptions": {"MarketType": "spot"}}, "InvalidParameterValue"),
        ({"MaxCount": 2}, "Unsupported"),
        ({"NetworkInterfaces": None}, "InvalidParameterValue"),
    ],
)
def test_a_wrong_request_is_refused(aws: Sdk, bare: AwsWorld, changes: dict[str, Any], code: str):
    assert code == refused(lambda: aws.run(EU, request(aws, **changes)))
    assert bare.physics.existing() == ()


def test_the_same_token_is_the_same_machine_or_a_mismatch(aws: Sdk):
    whole = request(aws)
    first, second = aws.run(EU, whole), aws.run(EU, whole)
    other = whole | {"UserData": "other"}

    assert first["InstanceId"] == second["InstanceId"]
    assert refused(lambda: aws.run(EU, other)) == "IdempotentParameterMismatch"


def test_a_stranger_is_not_ended_under_the_policy(aws: Sdk, bare: AwsWorld):
    stranger = bare.make_stranger()

    assert refused(lambda: aws.terminate(EU, stranger.id)) == "UnauthorizedOperation"
    assert bare.physics.existing() != ()


def test_ids_and_filters_that_are_nothing_are_refused(aws: Sdk):
    assert refused(lambda: aws.terminate(EU, "i-00000000000000000")) == "InvalidInstanceID.NotFound"
    assert refused(lambda: aws.terminate(EU, "m-0")) == "InvalidInstanceID.Malformed"
    assert refused(lambda: aws.instances(EU, [{"Name": "no-such", "Values": ["x"]}])) == "InvalidParameterValue"


def test_a_group_in_the_wrong_vpc_or_twice_is_refused(aws: Sdk):
    group(aws)
    far = {"GroupName": "h", "Description": "d", "VpcId": "vpc-00000000"}

    assert refused(lambda: group(aws)) == "InvalidGroup.Duplicate"
    assert refused(lambda: aws.make_group(EU, far)) == "InvalidVpcID.NotFound"


def test_a_group_holds_sixty_rules_and_each_once(aws: Sdk):
    id_ = group(aws)
    many = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": f"198.51.{at}.0/24"} for at in range(61)]}]
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    wanted = Rules.of(NetworkPolicy.EGRESS, port=22)

    assert refused(lambda: aws.set_rules(EU, Operation.ALLOW_OUT, id_, many)) == "RulesPerSecurityGroupLimitExceeded"
    assert refused(lambda: aws.set_rules(EU, Operation.ALLOW_OUT, id_, everything)) == "InvalidPermission.Duplicate"
    assert len(wanted.outward) <= 60


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Action": "RunInstances", "MinCount": "1", "MaxCount": "1", "Bogus": "1"}, "UnknownParameter"),
        ({"Action": "RunInstances", "MinCount": "1"}, "MissingParameter"),
        ({"Action": "RunInstances", "MinCount": "one", "MaxCount": "1"}, "InvalidParameterValue"),
        ({"Action": "RunInstances", "MinCount": "1", "MaxCount": "1", "Placement.Nothing": "1"}, "UnknownParameter"),
        ({"Action": "TerminateInstances", "InstanceId.2": "i-0"}, "InvalidParameterValue"),
        ({"Action": "TerminateInstances", "InstanceId.1": "i-0", "Force": "yes"}, "InvalidParameterValue"),
        ({"Action": "NoSuchThing"}, "InvalidAction"),
    ],
)
def test_a_form_that_the_model_does_not_know_is_refused(bare: AwsWorld, form: dict[str, str], code: str):
    scope = f"{KEY_ID}/20260101/eu-west-1/ec2/aws4_request"
    signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"
    body = urlencode({"Version": "2016-11-15", **form}).encode()
    answer = bare.aws.serve(Request("POST", "/", "", {"authorization": signed}, body))

    assert f"<Code>{code}</Code>" in answer.body.decode()


def test_the_host_key_in_user_data_arrives_as_it_was_sent(aws: Sdk, bare: AwsWorld):
    aws.run(EU, request(aws, UserData="#cloud-config\n{}\n"))
    [machine] = bare.physics.existing()

    assert machine.user_data == b"#cloud-config\n{}\n"
    assert base64.b64decode(machine.document["UserData"]) == machine.user_data


@pytest.mark.parametrize(
    "access",
    [
        Access(KEY_ID, "another secret", SESSION),
        Access(KEY_ID, SECRET, "another token"),
        Access(KEY_ID, SECRET),
        Access("AKIANOBODY", SECRET, SESSION),
    ],
)
def test_who_signs_otherwise_is_refused(bare: AwsWorld, access: Access):
    stranger = Sdk(evolve(access, endpoint_url=bare.server.url))

    assert refused(lambda: stranger.instances(EU, [])) == "AuthFailure"
    assert refused(lambda: stranger.identity(EU)) == "InvalidClientTokenId"
    assert refused(lambda: stranger.quotas(EU)) == "UnrecognizedClientException"


def test_cloudwatch_takes_no_more_than_500_queries(quick: AwsWorld, sdk: Callable[[AwsWorld], Sdk]):
    queries = metric_queries(f"i-{at:017x}" for at in range(167))
    ask = partial(sdk(quick).metrics, EU, start=datetime.fromtimestamp(0, UTC), end=datetime.fromtimestamp(300, UTC))

    assert len(queries) == 501
    assert len(ask(queries[:500])) == 500
    assert refused(lambda: ask(queries)) == "ValidationError"
