"""EC2 twice: one life of a machine, with the same claims, at our own fake and at moto, which strangers wrote.

moto is a second opinion and no proof. What is left out here, since moto 5.2.5 does otherwise than EC2:

- a client token that comes twice makes two machines, and a listing by ``client-token`` fails, so ``discard`` too;
- CPU options are dropped, so nothing is told of SEV-SNP; a spot machine has no request, and its price is a constant;
- an interface's tags are lost; a security group that is not there is taken, and one in use can be deleted;
- nobody is refused: no policy, no quota, no capacity, no region that is disabled, no limit of user data or tokens;
- there are no prices and no quotas, so no catalog is fetched;
- machine types come in one page however many, and which zone has them is told for whole names only, not for ``t3.*``;
- a machine runs at once and has ended at once; the moment of its end has the wrong zone; ending it twice fails;
- an instance type that is not there is refused by a code that EC2 has not;
- nothing boots, so no guest is logged in to.
"""

import base64
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import boto3
import pytest
from attrs import evolve, frozen

from compute_bridge.api import BackendContext
from compute_bridge.cloud.machine import Machine, MachineState
from compute_bridge.cloud.tags import OWNER, tags_of
from compute_bridge.model.ids import BackendName, InstanceId, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge.ports.backend import ExitCause, Offer, Order
from compute_bridge.ports.doctor import Verdict
from compute_bridge.ports.errors import BackendError, UnservableError
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.orders import make_order, needs_of, new_token
from compute_bridge_aws.account import Account, code_of
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.catalog import Shelf
from compute_bridge_aws.cloud import AwsCloud
from compute_bridge_aws.config import AwsConfig, AwsRegion
from compute_bridge_aws.doctor import Doctor
from compute_bridge_aws.group import Rules
from compute_bridge_aws.hooks import open_account
from compute_bridge_aws.image import Images
from compute_bridge_aws.launch import Image, launch_request, user_data
from compute_bridge_aws.machine_of import join, split
from compute_bridge_aws.sdk import Operation
from compute_bridge_aws.testing.world import KEY_ID, SECRET, AwsWorld, config

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

EU, ZONE, SHAPE = Region("eu-west-1"), Zone("eu-west-1a"), "c6a.large"
NAME = BackendName("aws-under-test")
SSH_IN = [{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 9, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
_NUMBERS = count(1)


@frozen
class Kept:
    """What an account keeps of a machine beside what our listing asks of it."""

    user_data: bytes
    on_shutdown: str
    metadata: tuple[str, int]
    volume_tags: dict[str, str]
    is_encrypted: bool


class Place(ABC):
    """An account in one region, at the fake or at moto."""

    def __init__(self, clock: HurriedClock, table: AwsConfig, reader: Callable[[str], bytes]) -> None:
        self.clock = clock
        self.config = table
        self.context = BackendContext(NAME, clock, reader)

    @abstractmethod
    def kept(self, machine: Machine) -> Kept:
        """Return what is kept of a machine."""

    @abstractmethod
    def rename(self, machine: Machine, name: str) -> None:
        """Change the tag ``Name``, as anybody may in the console."""

    @abstractmethod
    def make_stranger(self) -> InstanceId:
        """Start a machine without our tags."""

    @abstractmethod
    def runs(self, instance: InstanceId) -> bool:
        """Return whether a machine runs, whoever it is of."""

    async def open(self) -> Account:
        """Return the account as a process opens it that has seen nothing of it yet."""
        return await Account.open(self.context, self.config)

    def order(self) -> Order:
        """Return a new order."""
        offer = Offer(
            id=OfferId(f"{ZONE}/{SHAPE}"),
            backend=NAME,
            region=EU,
            zone=ZONE,
            shape=SHAPE,
            resources=Resources(2000, 4096, 256, 0),
            posture=Posture.NONE,
            networks=(NetworkPolicy.EGRESS,),
            cost=CostBasis("USD", UnitNanos(machine=NanosPerHour(76_500_000)), observed_at=UtcMs(1), source="a test"),
            images=("debian",),
            runs_oci=False,
        )
        now, needs = UtcMs(self.clock.utc_ms()), needs_of(offer)
        return make_order(offer, new_token(), needs=needs, image=ImageRef("vm:debian"), user="guest", now=now)


class FakePlace(Place):
    def __init__(self, world: AwsWorld) -> None:
        world.use(evolve(world.config, regions=world.config.regions[:1]))
        super().__init__(world.clock, world.config, world._read_secret)
        self._world = world

    def kept(self, machine: Machine) -> Kept:
        found = self._world.machine_of(machine.id)
        [volume] = self._world.physics.resources("volume", machine=found.id)
        options = found.document["MetadataOptions"]
        return Kept(
            found.user_data,
            found.document["InstanceInitiatedShutdownBehavior"],
            (options["HttpTokens"], options["HttpPutResponseHopLimit"]),
            dict(volume.tags),
            volume.document["Encrypted"],
        )

    def rename(self, machine: Machine, name: str) -> None:
        found = self._world.machine_of(machine.id)
        self._world.physics.retag(found.id, {**found.tags, "Name": name})

    def make_stranger(self) -> InstanceId:
        return self._world.instance_id(self._world.make_stranger())

    def runs(self, instance: InstanceId) -> bool:
        return instance in {self._world.instance_id(one) for one in self._world.physics.existing()}


class MotoPlace(Place):
    def __init__(self, url: str, ec2: Any) -> None:
        self._ec2 = ec2
        vpc = self._ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = self._ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/20", AvailabilityZone=ZONE)["Subnet"]
        self.image = self._stock_image()
        table = AwsRegion(name=EU, subnets={ZONE: subnet["SubnetId"]}, images={"debian": self.image})
        # One server serves every test, so each has an owner of its own.
        owner = f"operator-{next(_NUMBERS)}"
        super().__init__(HurriedClock(), evolve(config(url), owner=owner, regions=(table,)), str.encode)

    def _stock_image(self) -> str:
        wanted = {"name": "ubuntu/*", "architecture": "x86_64", "root-device-type": "ebs"}
        filters = [{"Name": key, "Values": [value]} for key, value in wanted.items()]
        return str(self._ec2.describe_images(Filters=filters)["Images"][0]["ImageId"])

    def _told(self, id_: str) -> dict[str, Any]:
        [reservation] = self._ec2.describe_instances(InstanceIds=[id_])["Reservations"]
        return dict(reservation["Instances"][0])

    def kept(self, machine: Machine) -> Kept:
        _, id_ = split(machine.id)
        told = partial(self._ec2.describe_instance_attribute, InstanceId=id_)
        options = self._told(id_)["MetadataOptions"]
        [volume] = self._ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [id_]}])["Volumes"]
        return Kept(
            base64.b64decode(told(Attribute="userData")["UserData"]["Value"]),
            told(Attribute="instanceInitiatedShutdownBehavior")["InstanceInitiatedShutdownBehavior"]["Value"],
            (options["HttpTokens"], options["HttpPutResponseHopLimit"]),
            {tag["Key"]: tag["Value"] for tag in volume["Tags"]},
            volume["Encrypted"],
        )

    def rename(self, machine: Machine, name: str) -> None:
        self._ec2.create_tags(Resources=[split(machine.id)[1]], Tags=[{"Key": "Name", "Value": name}])

    def make_stranger(self) -> InstanceId:
        made = self._ec2.run_instances(ImageId=self.image, InstanceType="t3.micro", MinCount=1, MaxCount=1)
        return join(EU, made["Instances"][0]["InstanceId"])

    def runs(self, instance: InstanceId) -> bool:
        return bool(self._told(split(instance)[1])["State"]["Name"] == "running")


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """Serve moto on loopback, with the checks of images and types that it has and does not make by itself."""
    from moto import settings
    from moto.server import ThreadedMotoServer

    # A line for each request, and a traceback for each that moto has not; nothing else is kept back.
    requests = logging.getLogger("werkzeug")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(requests, "disabled", True)
        patched.setattr(settings, "ENABLE_AMI_VALIDATION", True)
        patched.setattr(settings, "EC2_ENABLE_INSTANCE_TYPE_VALIDATION", True)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()
        assert server._server is not None
        server._server.server_close()


@pytest.fixture(scope="module")
def moto_ec2(moto_url: str) -> Any:
    keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
    return boto3.client("ec2", region_name=EU, endpoint_url=moto_url, **keys)


@pytest.fixture(params=["fake", "moto"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "fake":
        return FakePlace(request.getfixturevalue("bare"))
    return MotoPlace(request.getfixturevalue("moto_url"), request.getfixturevalue("moto_ec2"))


@pytest.fixture
async def account(place: Place) -> Account:
    return await place.open()


async def started(place: Place, account: Account, order: Order | None = None) -> Machine:
    """Return the one machine of ours, running."""
    cloud = AwsCloud(account)
    await cloud.create(order or place.order())
    while True:
        [machine] = (await cloud.machines(EU)).values()
        if machine.state is MachineState.RUNNING and machine.host:
            return machine
        await place.clock.sleep_ms(1000)


async def ended(place: Place, account: Account, machine: Machine) -> Machine:
    while machine.state is not MachineState.GONE:
        await place.clock.sleep_ms(1000)
        machine = (await AwsCloud(account).machines(EU))[machine.id]
    return machine


async def groups_of(account: Account) -> list[dict[str, Any]]:
    owned = [{"Name": f"tag:{OWNER}", "Values": [account.config.owner]}]
    return await account.read("look for groups", partial(account.sdk.groups, EU, owned))


# --- one life -----------------------------------------------------------------------------------------


async def test_an_order_makes_one_machine_that_the_listing_tells_whole(place: Place, account: Account):
    order = place.order()
    machine = await started(place, account, order)

    assert (machine.tags.token, machine.tags.ownership) == (order.token, order.ownership)
    assert (machine.tags.offer, machine.tags.user) == (order.offer.id, order.access.user)
    assert (machine.tags.host_key, machine.tags.port) == (order.access.host_key, account.config.ssh_port)
    assert (machine.tags.ends_at, machine.tags.size) == (order.ends_at, order.requirements.resources)
    assert (machine.exit, machine.failure) == (None, None)


async def test_a_machine_is_kept_as_it_was_asked_for(place: Place, account: Account):
    order = place.order()
    kept = place.kept(await started(place, account, order))

    assert kept.user_data == user_data(order, account.config).encode()
    assert kept.on_shutdown == "terminate"
    assert kept.metadata == ("required", 1)
    assert kept.is_encrypted


async def test_a_volume_carries_the_tags_of_its_machine(place: Place, account: Account):
    order = place.order()
    kept = place.kept(await started(place, account, order))
    tags = tags_of(order, account.config)

    assert kept.volume_tags == {"Name": order.ownership.name, **tags}


async def test_two_orders_are_two_machines_in_one_listing(place: Place, account: Account):
    orders = [place.order(), place.order()]
    for order in orders:
        await AwsCloud(account).create(order)
    found = await AwsCloud(account).machines(EU)

    assert {machine.tags.token for machine in found.values()} == {order.token for order in orders}


async def test_a_machine_that_somebody_renames_is_still_ours(place: Place, account: Account):
    machine = await started(place, account)
    place.rename(machine, "Web server (do not touch!)")
    found = await AwsCloud(account).machines(EU)

    assert found[machine.id].tags == machine.tags


async def test_an_end_is_told_by_the_listing_and_by_the_machine_s_own_record(place: Place, account: Account):
    machine = await started(place, account)
    await AwsCloud(account).delete(machine)
    gone = await ended(place, account, machine)
    recorded = await AwsCloud(account).exit_of(machine.id)

    assert gone.exit is not None
    assert gone.exit.cause is ExitCause.TERMINATED
    assert recorded == gone.exit
    assert not place.runs(machine.id)


async def test_one_that_lives_has_no_record_of_an_end(place: Place, account: Account):
    machine = await started(place, account)

    assert await AwsCloud(account).exit_of(machine.id) is None


async def test_to_end_what_is_not_there_returns(place: Place, account: Account):
    machine = await started(place, account)
    await AwsCloud(account).delete(evolve(machine, id=join(EU, "i-00000000000000001")))

    assert place.runs(machine.id)


async def test_a_stranger_is_neither_listed_nor_ended(place: Place):
    stranger = place.make_stranger()
    async with open_account(place.context, place.config) as backend:
        assert isinstance(backend, AwsBackend)
        assert await backend.list_owned() == ()
        await backend.terminate(stranger)

    assert place.runs(stranger)


# --- groups -------------------------------------------------------------------------------------------


async def test_two_processes_share_a_group_with_the_rules_of_its_policy(place: Place, account: Account):
    await AwsCloud(account).create(place.order())
    await AwsCloud(await place.open()).create(place.order())
    [group] = await groups_of(account)

    assert Rules.read(group) == Rules.of(NetworkPolicy.EGRESS, port=account.config.ssh_port)


async def test_a_group_or_a_rule_that_is_there_already_has_the_code_that_we_pass_over(place: Place, account: Account):
    await AwsCloud(account).create(place.order())
    [group] = await groups_of(account)
    again = {key: group[key] for key in ("GroupName", "Description", "VpcId")}
    again["TagSpecifications"] = [{"ResourceType": "security-group", "Tags": group["Tags"]}]
    allow = partial(account.sdk.set_rules, EU, Operation.ALLOW_IN, group["GroupId"], SSH_IN)
    deny = partial(account.sdk.set_rules, EU, Operation.DENY_IN, group["GroupId"], SSH_IN)
    await account.change("allow", allow)
    twice = await refused(account, allow)
    await account.change("deny", deny)

    assert code_of(await refused(account, partial(account.sdk.make_group, EU, again))) == "InvalidGroup.Duplicate"
    assert code_of(twice) == "InvalidPermission.Duplicate"
    assert code_of(await refused(account, deny)) == "InvalidPermission.NotFound"


# --- refusals and questions -----------------------------------------------------------------------------


async def refused(account: Account, call: Callable[[], object]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await account.change("do it", call)
    return caught.value


@pytest.mark.parametrize(
    ("image", "subnet", "code"),
    [("ami-00000000", "", "InvalidAMIID.NotFound"), ("", "subnet-00000000", "InvalidSubnetID.NotFound")],
)
async def test_what_is_not_there_cannot_be_served(place: Place, account: Account, image: str, subnet: str, code: str):
    table = place.config.regions[0]
    await AwsCloud(account).create(place.order())
    [group] = await groups_of(account)
    chosen = Image(image or table.images["debian"], "/dev/xvda", 8)
    wrong = evolve(table, subnets={ZONE: subnet}) if subnet else table
    request = launch_request(place.order(), place.config, wrong, image=chosen, group=group["GroupId"])
    error = await refused(account, partial(account.sdk.run, EU, request))

    assert (type(error), code_of(error)) == (UnservableError, code)


async def test_the_doctor_asks_by_dry_runs_that_make_and_end_nothing(place: Place, account: Account):
    machine = await started(place, account)
    groups = await groups_of(account)
    found = {one.check: one.verdict for one in await Doctor(account).examine()}
    changing = [one for one in Operation if one.action.startswith("ec2:") and "Describe" not in one.name_in_api]
    asked = {f"permission {one.action} {EU}" for one in changing}
    seen = {f"subnet {ZONE}", f"image debian {EU}", f"permission ec2:DescribeInstances {EU}", "identity"}

    assert {check: found[check] for check in asked | seen} == dict.fromkeys(asked | seen, Verdict.OK)
    assert set(await AwsCloud(account).machines(EU)) == {machine.id}
    assert place.runs(machine.id)
    assert await groups_of(account) == groups


async def test_a_listing_of_several_pages_is_read_whole(place: Place, account: Account):
    for _ in range(6):
        await AwsCloud(account).create(place.order())
    owned = [{"Name": f"tag:{OWNER}", "Values": [account.config.owner]}]
    paged = partial(account.sdk._pages, Operation.INSTANCES, EU, "Reservations", page=5, Filters=owned)

    assert len(await account.read("list", paged)) == 6


async def test_what_is_on_sale_is_what_the_zone_has(place: Place):
    place.config = evolve(place.config, shapes=(SHAPE, "m7i.large", "t3.micro"))
    table, account = place.config.regions[0], await place.open()
    shelf = Shelf(account, Images(account))
    shapes, zones = await shelf.shapes(table), await shelf.zones(table)

    assert (shapes[SHAPE].resources.cpu_millis, shapes[SHAPE].resources.mem_mib) == (2000, 4096)
    assert [shapes[name].has_snp for name in (SHAPE, "m7i.large", "t3.micro")] == [True, False, False]
    assert {(ZONE, SHAPE), (ZONE, "m7i.large"), (ZONE, "t3.micro")} <= zones
