"""The World over the fake AWS: what the conformance kit and the plugin's own tests pull at."""

import sys
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any, ClassVar

from attrs import evolve

from compute_bridge.api import Backend, BackendContext
from compute_bridge.cloud.settings import HostKey
from compute_bridge.model.boot import SecretRef
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.resources import Region, Requirements
from compute_bridge.model.units import HOUR_MS, Milliseconds, Nanos, NanosPerHour
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.errors import NoCapacityError, QuotaError
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import Machine
from compute_bridge.testing.physics.wire import WireServer
from compute_bridge.testing.physics.world import CloudWorld, SupportsClosedRegions, SupportsPages
from compute_bridge_aws.config import AwsConfig, AwsRegion
from compute_bridge_aws.hooks import open_account
from compute_bridge_aws.policy import policy
from compute_bridge_aws.testing.aws import FakeAws
from compute_bridge_aws.testing.signature import Key
from compute_bridge_aws.testing.stock import ACCOUNT, IMAGES, OTHER_ACCOUNT, SUBNETS, ZONES

KEY_ID, FOREIGN_KEY_ID = "AKIAFAKEFAKEFAKEFAKE", "AKIAFOREIGNFOREIGN00"
SECRET, TOKEN = "fakeSecretAccessKeyThatIsNobodys40Letters", "fakeSessionTokenThatIsNobodysEither"
_SECRETS = {
    "env:KEY_ID": KEY_ID,
    "env:FOREIGN_KEY_ID": FOREIGN_KEY_ID,
    "env:SECRET": SECRET,
    "env:TOKEN": TOKEN,
}
_SPEED = 200
_DAY_MS = Milliseconds(24 * HOUR_MS)


def region(name: str) -> AwsRegion:
    """Return the table of one region of the fake."""
    zones = {zone: SUBNETS[zone] for zone in ZONES[name]}
    return AwsRegion(name=Region(name), subnets=zones, images={"debian": IMAGES[name]})


def config(endpoint_url: str = "") -> AwsConfig:
    """Return the table that an operator of this account would write."""
    return AwsConfig(
        owner="operator-1",
        shapes=("c6a.*", "m7i.large", "t3.*"),
        account_id=ACCOUNT,
        access_key_id=SecretRef("env:KEY_ID"),
        secret_access_key=SecretRef("env:SECRET"),
        session_token=SecretRef("env:TOKEN"),
        regions=tuple(region(name) for name in ZONES),
        address_cost=NanosPerHour(5_000_000),
        egress_cost=Nanos(90_000_000),
        endpoint_url=endpoint_url,
        ssh_port=22022,
        host_key=HostKey.INJECTED,
    )


class AwsWorld(CloudWorld, SupportsClosedRegions, SupportsPages):
    """One account at the fake AWS, over HTTP on loopback, with guests that are real SSH servers.

    ``speed`` is how many times faster than the wall its clock goes.
    """

    create_call, delete_call, list_call = "RunInstances", "TerminateInstances", "DescribeInstances"
    late_failures: ClassVar = {
        "Server.InsufficientInstanceCapacity": NoCapacityError,
        "Client.VolumeLimitExceeded": QuotaError,
    }
    patience_s = 30.0
    # Three seconds of the wall: a provision has to fit, also on a busy machine.
    near_end_ms = 600_000
    name = BackendName("aws-under-test")

    def __init__(self, *, propagation_ms: int = 0, boots_guests: bool = True, speed: int = _SPEED) -> None:
        self._propagation_ms = propagation_ms
        self._boots_guests = boots_guests
        super().__init__(speed=speed)
        self.config = config()
        self.aws = FakeAws(
            self.physics,
            policy=policy(self.config),
            keys={KEY_ID: Key(ACCOUNT, SECRET, TOKEN), FOREIGN_KEY_ID: Key(OTHER_ACCOUNT, SECRET, TOKEN)},
        )
        self.server = WireServer(self.aws.serve)
        self.config = evolve(self.config, endpoint_url=self.server.url)

    def make_physics(self) -> Physics:
        """Return an account in two regions."""
        return Physics(
            self.clock,
            zones=ZONES,
            propagation_ms=self._propagation_ms,
            guests=Guests() if self._boots_guests else None,
        )

    def use(self, config: AwsConfig) -> None:
        """Open backends by another table from now on, and allow what it needs."""
        self.config = config
        self.aws.policy = policy(config)

    def reconfigure(self, **changes: Any) -> None:
        """Open backends by the table with these keys changed from now on; what is allowed already stays allowed."""
        allowed = self.aws.policy["Statement"]
        self.use(evolve(self.config, **changes))
        self.aws.policy = {"Statement": [*allowed, *self.aws.policy["Statement"]]}

    def page_by(self, size: int) -> None:
        """Let no page hold more than ``size``, whatever is asked for."""
        self.aws.ec2.page = size

    def close_region(self, region: str) -> None:
        """Let the account not be opted in to a region."""
        self.aws.ec2.disabled = {region}

    def open_backend(self) -> AbstractAsyncContextManager[Backend]:
        """Open the account as the host does."""
        return open_account(BackendContext(self.name, self.clock, self._read_secret), self.config)

    def _read_secret(self, reference: str) -> bytes:
        return _SECRETS[reference].encode()

    def scanned(self) -> tuple[ModuleType, ...]:
        """Return the plugin's modules but these of the fake, and the room that clouds share."""
        names = ("compute_bridge_aws.", "compute_bridge.cloud.")
        ours = {name: module for name, module in sys.modules.items() if name.startswith(names)}
        return tuple(module for name, module in sorted(ours.items()) if ".testing" not in name)

    def instance_id(self, machine: Machine) -> InstanceId:
        """Return region and id, as the plugin joins them."""
        return InstanceId(f"{machine.region}/{machine.id}")

    def make_stranger(self) -> Machine:
        """Start somebody's machine without tags, which has a spot request of theirs and counts as on demand."""
        launched = self.physics.launch(
            region="eu-west-1", zone="eu-west-1a", shape="t3.micro", id="i-0000000000000beef"
        )
        self.physics.add("spot-request", "sir-0000beef", place="eu-west-1", machine=launched.machine.id)
        return launched.machine

    def needs(self, offer: Offer) -> Requirements:
        """Return requirements for a day: an hour of this clock is soon over."""
        return evolve(super().needs(offer), duration_ms=_DAY_MS)

    def image(self) -> ImageRef:
        """Return the image that each region has."""
        return ImageRef("vm:debian")

    def secrets(self) -> tuple[str, ...]:
        """Return what may be seen nowhere."""
        return (SECRET, TOKEN)

    def close(self) -> None:
        """End the server and the guests; a bug of the fake is told."""
        self.server.close()
        super().close()
        if self.server.errors:
            raise ExceptionGroup("bugs of the fake", self.server.errors)
