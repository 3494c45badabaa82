"""Real response documents, where they are at hand, through the SDK; this repository carries nobody else's."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_bridge.testing.physics.wire import Request, Response, WireServer
from compute_bridge_aws.machine_of import machine_of, tags_in
from compute_bridge_aws.sdk import Access, Operation, Sdk

BESIDE = Path(__file__).resolve().parents[4] / "shared" / "fixtures"
FIXTURES = Path(os.environ.get("COMPUTE_BRIDGE_FIXTURES", BESIDE)) / "clouds" / "ec2"
EU = "eu-west-1"

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="fixtures: set COMPUTE_BRIDGE_FIXTURES to their folder")


class Replay:
    def __init__(self) -> None:
        self.document = b""
        self.server = WireServer(self.serve)
        self.sdk = Sdk(Access("AKIA", "secret", endpoint_url=self.server.url))

    def serve(self, _request: Request) -> Response:
        return Response(200, self.document, {"Content-Type": "text/xml"})

    def play(self, name: str) -> Sdk:
        self.document = (FIXTURES / f"{name}.xml").read_bytes()
        return self.sdk


@pytest.fixture
def replay() -> Iterator[Replay]:
    recorded = Replay()
    with recorded.server:
        yield recorded


@pytest.mark.parametrize("name", ["run_instances_idem", "run_instances_iam_profile", "run_instances_spot"])
def test_a_recorded_launch_is_read_and_is_nobody_s_of_ours(replay: Replay, name: str):
    made = replay.play(name).run(EU, {"MinCount": 1, "MaxCount": 1})

    assert made["InstanceId"].startswith("i-")
    assert made["State"]["Name"] in ("pending", "running")
    assert machine_of(made, backend="b", region=EU, public=True, now=0) is None  # type: ignore[arg-type]


def test_a_recorded_end_is_read(replay: Replay):
    replay.play("terminate_instances").terminate(EU, "i-4382922a")


def test_recorded_images_subnets_and_groups_are_read(replay: Replay):
    images = replay.play("describe_images").images(EU, ["ami-1"])
    subnets = replay.play("describe_subnets").subnets(EU, ["subnet-1"])
    groups = replay.play("describe_security_groups").groups(EU, [])

    assert all(image["ImageId"].startswith("ami-") for image in images)
    assert {"SubnetId", "VpcId", "AvailabilityZone"} <= set(subnets[0])
    assert all(group["GroupId"].startswith("sg-") for group in groups)
    assert [tags_in(image) for image in images] != []


def test_recorded_rules_and_groups_that_were_made_are_read(replay: Replay):
    rules = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]

    assert replay.play("create_security_group").make_group(EU, {"GroupName": "g", "Description": "d"})
    replay.play("revoke_security_group_egress").set_rules(EU, Operation.DENY_OUT, "sg-1", rules)
    replay.play("revoke_security_group_ingress").set_rules(EU, Operation.DENY_IN, "sg-1", rules)
