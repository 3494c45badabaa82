"""A subscription on loopback, with the kit's levers."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from attrs import evolve

from compute_bridge.api import Backend, BackendContext
from compute_bridge.cloud.settings import HostKey
from compute_bridge.cloud.tags import GRANT, MAC, OWNER, TOKEN
from compute_bridge.model.boot import FilePath, SecretRef
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.resources import NetworkPolicy, Region
from compute_bridge.model.units import Nanos, NanosPerHour
from compute_bridge.ports.errors import NoCapacityError
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import Machine, State, Then
from compute_bridge.testing.physics.tls import make_tls
from compute_bridge.testing.physics.world import CloudWorld, SupportsClosedRegions, SupportsPages
from compute_bridge_azure.config import AzureConfig, AzureImage, GuestNetwork, Location
from compute_bridge_azure.hooks import open_azure
from compute_bridge_azure.testing.arm import ArmFake
from compute_bridge_azure.testing.images import FakeImage
from compute_bridge_azure.testing.market import REAL_ZONES
from compute_bridge_azure.testing.orders import Rules
from compute_bridge_azure.testing.tokens import Tokens
from compute_bridge_azure.testing.walls import wall

TENANT = "77777777-7777-7777-7777-777777777777"
SUBSCRIPTION = "99999999-9999-9999-9999-999999999999"
CLIENT = "11111111-1111-1111-1111-111111111111"
PRINCIPAL = "22222222-2222-2222-2222-222222222222"
GROUP = "bridge"
LOCATIONS = ("westeurope", "northeurope")
URN = "Canonical:ubuntu-24_04-lts:server:latest"
CONFIDENTIAL_URN = "Canonical:ubuntu-24_04-lts:cvm:latest"
ARM64_URN = "Canonical:ubuntu-24_04-lts:server-arm64:latest"

_SSH_PORT = 2222


class AzureWorld(CloudWorld, SupportsClosedRegions, SupportsPages):
    """One resource group. Machines whose guests were powered off are ended, though Azure goes on billing them.

    ``running`` so tells what serves somebody; :meth:`billed` tells what the operator pays for, and
    ``physics.leftovers()`` every NIC, address and disk that stands.
    """

    create_call, delete_call, list_call = "PutMachine", "DeleteMachine", "ListMachines"
    late_failures: ClassVar = {"AllocationFailed": NoCapacityError, "ZonalAllocationFailed": NoCapacityError}
    patience_s = 30.0
    near_end_ms = 240_000
    name = BackendName("azure-under-test")

    def __init__(self, *, guests: bool = True) -> None:
        self._has_guests = guests
        self._folder = TemporaryDirectory(prefix="azure-")
        self.tokens = Tokens(tenant=TENANT, client=CLIENT, principal=PRINCIPAL)
        super().__init__()
        tls = make_tls(Path(self._folder.name))
        self.arm = ArmFake(
            self.physics, self.make_rules(), self.tokens, subscription=SUBSCRIPTION, group=GROUP, tls=tls
        )
        self.config = self.make_config(FilePath(str(tls.ca_file)))

    def make_physics(self) -> Physics:
        """Return an account in which a power-off from inside, and a crash, only stop a machine."""
        return Physics(
            self.clock,
            zones={location: tuple(f"{location}-{zone}" for zone in REAL_ZONES) for location in LOCATIONS},
            remember_ms=0,
            on_guest_shutdown=Then.STOPPED,
            on_crash=Then.STOPPED,
            on_failure=Then.FAILED,
            guests=Guests() if self._has_guests else None,
        )

    def make_rules(self) -> Rules:
        """Return what this account has, and a policy of its own: nothing is made without our tags."""
        groups = {
            self.security_group(location, policy): wall(policy, _SSH_PORT)
            for location in LOCATIONS
            for policy in NetworkPolicy
        }
        subnets = {self.subnet(location): location for location in LOCATIONS}
        return Rules(
            locations=LOCATIONS,
            subnets=tuple(subnets),
            places={
                **subnets,
                **{self.security_group(place, policy): place for place in LOCATIONS for policy in NetworkPolicy},
            },
            security_groups=groups,
            images={
                URN: FakeImage(),
                CONFIDENTIAL_URN: FakeImage(confidential=True),
                ARM64_URN: FakeImage(arm=True),
            },
            required_tags=(OWNER, TOKEN, GRANT, MAC),
        )

    @staticmethod
    def security_group(location: str, policy: NetworkPolicy) -> str:
        """Return the id of the security group for a policy in a location."""
        base = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network"
        return f"{base}/networkSecurityGroups/{location}-{policy}"

    @staticmethod
    def subnet(location: str) -> str:
        """Return the id of the one subnet of a location."""
        base = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network"
        return f"{base}/virtualNetworks/{location}/subnets/guests"

    def make_config(self, ca_file: FilePath) -> AzureConfig:
        """Return the table that the operator of this account would write."""
        return AzureConfig(
            owner="bridge-under-test",
            shapes=("Standard_D2s_v5", "Standard_D4s_v5"),
            tenant=TENANT,
            subscription=SUBSCRIPTION,
            principal=PRINCIPAL,
            client=CLIENT,
            client_secret=SecretRef("env:AZURE_CLIENT_SECRET"),
            resource_group=GROUP,
            locations=tuple(self._location(name) for name in LOCATIONS),
            image_table=(AzureImage(name="ubuntu", urn=URN, confidential_urn=CONFIDENTIAL_URN),),
            disk_cost=NanosPerHour(110_000),
            address_cost=NanosPerHour(5_000_000),
            egress_cost=Nanos(87_000_000),
            ssh_port=_SSH_PORT,
            host_key=HostKey.INJECTED,
            ready_s=60,
            arm=self.arm.url,
            authority=self.arm.url,
            prices=self.arm.url,
            ca_file=ca_file,
        )

    def _location(self, name: str) -> Location:
        networks = (
            GuestNetwork(policy=policy, subnet=self.subnet(name), security_group=self.security_group(name, policy))
            for policy in NetworkPolicy
        )
        return Location(name=Region(name), networks=tuple(networks))

    # --- the world ------------------------------------------------------------------------------------

    def open_backend(self) -> AbstractAsyncContextManager[Backend]:
        """Open the subscription as the host does."""
        context = BackendContext(self.name, self.clock, lambda _reference: self.tokens.secret.encode())
        return open_azure(context, self.config)

    def image(self) -> ImageRef:
        """Return the one image."""
        return ImageRef("vm:ubuntu")

    def secrets(self) -> tuple[str, ...]:
        """Return the client secret and every token that was given for it."""
        return (self.tokens.secret, *self.tokens.issued)

    def instance_id(self, machine: Machine) -> InstanceId:
        """Return the name, by which Azure and the backend know a machine."""
        return InstanceId(machine.name)

    async def running(self) -> frozenset[InstanceId]:
        """Return the machines that serve somebody, or will, or end at this moment."""
        return frozenset(
            self.instance_id(one) for one in self.physics.existing() if one.costs and one.state is not State.STOPPED
        )

    def billed(self) -> frozenset[InstanceId]:
        """Return the machines that cost money, stopped ones among them."""
        return frozenset(self.instance_id(one) for one in self.physics.existing() if one.costs)

    async def leftovers(self) -> frozenset[str]:
        """Return the NICs, addresses and disks whose machine is no more."""
        there = {machine.id for machine in self.physics.existing()}
        return frozenset(f"{one.kind} {one.id}" for one in self.physics.leftovers() if one.machine not in there)

    def sell(self, *shapes: str, **changes: Any) -> None:
        """Change the table before a backend is opened."""
        self.config = evolve(self.config, shapes=shapes or self.config.shapes, **changes)

    def reconfigure(self, **changes: Any) -> None:
        """Open backends by the table with these keys changed from now on."""
        self.config = evolve(self.config, **changes)

    def page_by(self, size: int) -> None:
        """Let no page of any list hold more than ``size``."""
        self.arm.page_size = size

    def close_region(self, region: str) -> None:
        """Let the subscription have no size in a location."""
        closed = (evolve(size, closed_locations=(*size.closed_locations, region)) for size in self.arm.rules.sizes)
        self.arm.rules = evolve(self.arm.rules, sizes=tuple(closed))

    def close(self) -> None:
        """End the guests, the server and the folder."""
        self.arm.close()
        super().close()
        self._folder.cleanup()
