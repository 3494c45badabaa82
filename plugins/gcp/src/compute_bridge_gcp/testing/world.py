"""A project at a fake Compute Engine, with every lever that the conformance suite knows."""

from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any, ClassVar

from anyio import to_thread
from attrs import evolve

from compute_bridge.cloud.settings import HostKey
from compute_bridge.cloud.tags import TOKEN, token_word
from compute_bridge.model.boot import SecretRef
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.resources import Region
from compute_bridge.model.units import Nanos, NanosPerHour
from compute_bridge.ports.backend import Backend, BackendContext, Offer, Order
from compute_bridge.ports.errors import NoCapacityError, QuotaError
from compute_bridge.testing.orders import new_token
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import Machine, Then
from compute_bridge.testing.physics.world import CloudWorld, SupportsPages
from compute_bridge_gcp.body import machine_body, request_id
from compute_bridge_gcp.config import GcpConfig, GcpImage, GcpRegion
from compute_bridge_gcp.hooks import open_project
from compute_bridge_gcp.listing import instance_id
from compute_bridge_gcp.testing.fake import FakeComputeEngine
from compute_bridge_gcp.testing.stock import ACCOUNT, IMAGE_PROJECT, PROJECT, SNP_ZONES, SUBNETWORK, TDX_ZONES, ZONES
from compute_bridge_gcp.testing.tokens import key_file, key_lines

KEY = SecretRef("env:GCP_KEY")


class GcpWorld(CloudWorld, SupportsPages):
    """One project at a fake. ``key`` is the service account's; ``config`` may be changed before a backend opens."""

    create_call, delete_call, list_call = "insert", "delete", "aggregatedList"
    late_failures: ClassVar = {"ZONE_RESOURCE_POOL_EXHAUSTED": NoCapacityError, "QUOTA_EXCEEDED": QuotaError}

    def __init__(self, *, has_guests: bool = True, speed: int = 100) -> None:
        self._has_guests = has_guests
        super().__init__(speed=speed)
        self.fake = FakeComputeEngine(self.physics)
        self.key = key_file(ACCOUNT)
        self.config = config_for(self.fake.url)

    def make_physics(self) -> Physics:
        """Return the physics of a vendor whose deleted machines vanish, and whose crashed ones stand stopped."""
        return Physics(
            self.clock,
            zones=ZONES,
            remember_ms=0,
            on_guest_shutdown=Then.STOPPED,
            on_crash=Then.STOPPED,
            guests=Guests() if self._has_guests else None,
        )

    def open_backend(self, config: GcpConfig | None = None) -> AbstractAsyncContextManager[Backend]:
        """Open a backend as the host does."""
        context = BackendContext(BackendName("gcp-test"), self.clock, lambda _reference: self.key)
        return open_project(context, config or self.config)

    def reconfigure(self, **changes: Any) -> None:
        """Change the table that backends are opened with."""
        self.config = evolve(self.config, **changes)

    def page_by(self, size: int) -> None:
        """Ask for pages of ``size``: here it is for the caller to say."""
        self.reconfigure(page_size=size)

    def go_down_in(self, place: str) -> None:
        """Answer for a zone no more, in listings either."""
        self.fake.go_down(place)

    async def come_back(self) -> None:
        """Answer for every zone."""
        self.fake.come_back()

    async def start(self, order: Order, *, request: str = "") -> InstanceId:
        """Start the machine of an order as a backend would have, under its request id or under another."""
        return await to_thread.run_sync(self.start_now, order, request)

    def start_now(self, order: Order, request: str = "") -> InstanceId:
        """Start it in this thread."""
        region, image = self.config.region_of(order.offer.zone), self.config.images[0]
        if region is None:
            raise ValueError(f"the table has no {order.offer.zone}")
        sdk = import_module("compute_bridge_gcp.sdk")
        body = machine_body(self.config, region, image, order, now_ms=self.clock.utc_ms())
        document = sdk.document_of("Instance", body)
        self.fake.instances.insert(order.offer.zone, request or request_id(order.token), document, ACCOUNT)
        return instance_id(order.offer.zone, order.ownership.name)

    def crowd(self, offer: Offer, number: int, *, spot: bool = False) -> None:
        """Let ``number`` machines like one run, in every zone in turn: straight in the physics, past the wire."""
        self.start_now(self.order(offer))
        [one] = self.physics.made()
        zones = [(region, zone) for region, zones in self.physics.zones.items() for zone in zones]
        for at in range(1, number):
            labels = {**one.tags, TOKEN: token_word(new_token())}
            region, zone = zones[at % len(zones)]
            self.physics.launch(
                region=region,
                zone=zone,
                shape=one.shape,
                id=str(at),
                name=f"cb-{at:024x}",
                spot=spot,
                tags=labels,
                document={**one.document, "labels": labels},
            )

    def make_stranger(self) -> Machine:
        """Start somebody's spot machine without labels."""
        region, [zone, *_] = next(iter(ZONES.items()))
        document = {"scheduling": {"provisioningModel": "SPOT"}}
        return self.physics.launch(
            region=region, zone=zone, shape="e2-standard-2", id="7", name="stranger", spot=True, document=document
        ).machine

    def image(self) -> ImageRef:
        """Return the image that boots in every machine."""
        return ImageRef("vm:ubuntu-24.04")

    def secrets(self) -> tuple[str, ...]:
        """Return the key, and every token made of it."""
        return (*key_lines(), *(token for token in self.fake.tokens if token))

    def instance_id(self, machine: Machine) -> InstanceId:
        """Return zone and name."""
        return instance_id(machine.zone, machine.name)

    def close(self) -> None:
        """End the server and the guests."""
        self.fake.close()
        super().close()


def config_for(url: str) -> GcpConfig:
    """Return the table of a backend on a fake that answers at ``url``."""
    return GcpConfig(
        owner="cb-tests",
        project=PROJECT,
        service_account=ACCOUNT,
        credentials=KEY,
        shapes=("e2-*", "n2d-*", "c3-*", "n2-*", "t2a-*"),
        regions=tuple(GcpRegion(name=Region(region), subnetwork=SUBNETWORK) for region in ZONES),
        images=(
            GcpImage(name="ubuntu-24.04", project=IMAGE_PROJECT, family="ubuntu-2404-lts-amd64", confidential=True),
            GcpImage(name="ubuntu-22.04", project=IMAGE_PROJECT, image="ubuntu-2204-v1"),
        ),
        host_key=HostKey.INJECTED,
        tdx_zones=TDX_ZONES,
        sev_snp_zones=SNP_ZONES,
        confidential_cost=UnitNanos(vcpu=NanosPerHour(5_000_000)),
        egress_cost=Nanos(120_000_000),
        compute_endpoint=url,
        billing_endpoint=url,
        resource_endpoint=url,
        monitoring_endpoint=url,
    )
