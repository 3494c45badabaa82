"""Four accounts by one clock that sell one region: AWS, GCP and Azure on loopback, and a shelf of our own in memory."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

from attrs import evolve, frozen

from compute_bridge.model.ids import BackendName
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.resources import Region
from compute_bridge.ports.backend import Backend, BackendContext, Order
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.memory import MemoryBackend, MemoryConfig
from compute_bridge.testing.memory_account import IMAGES, SHAPES, connect
from compute_bridge.testing.memory_cloud import MemoryCloud
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.world import CloudWorld
from compute_bridge_aws.testing.stock import ZONES as AWS_ZONES
from compute_bridge_aws.testing.world import AwsWorld
from compute_bridge_azure.testing.world import AzureWorld
from compute_bridge_gcp.config import GcpConfig
from compute_bridge_gcp.hooks import open_project
from compute_bridge_gcp.testing.world import GcpWorld

EU = Region("eu")
IMAGE = "debian"
AWS, GCP, AZURE, SHELF = (BackendName(name) for name in ("aws", "gcp", "azure", "shelf"))


class Aws(AwsWorld):
    """One region of the fake AWS, sold as ``eu``."""

    name = AWS

    def __init__(self, clock: HurriedClock, **table: Any) -> None:
        self._clock = clock
        super().__init__()
        self.use(evolve(self.config, sold_as={"eu-west-1": EU}, shapes=("t3.micro",), **table))

    def make_physics(self) -> Physics:
        """Return the account by the shared clock."""
        self.clock = self._clock
        return Physics(self.clock, zones=AWS_ZONES, guests=Guests())


class Gcp(GcpWorld):
    """One region of the fake Compute Engine, sold as ``eu``."""

    def __init__(self, clock: HurriedClock, **table: Any) -> None:
        self._clock = clock
        super().__init__()
        images = (evolve(self.config.images[0], name=IMAGE),)
        self.reconfigure(sold_as={"europe-west4": EU}, shapes=("e2-standard-2",), images=images, **table)

    def make_physics(self) -> Physics:
        """Return the account by the shared clock."""
        self.clock = self._clock
        return super().make_physics()

    def open_backend(self, config: GcpConfig | None = None) -> AbstractAsyncContextManager[Backend]:
        """Open a backend as the host does, by its name here."""
        context = BackendContext(GCP, self.clock, lambda _reference: self.key)
        return open_project(context, config or self.config)


class Azure(AzureWorld):
    """One location of the fake Resource Manager, sold as ``eu``."""

    name = AZURE

    def __init__(self, clock: HurriedClock, **table: Any) -> None:
        self._clock = clock
        super().__init__()
        images = (evolve(self.config.image_table[0], name=IMAGE),)
        self.sell("Standard_D2s_v5", sold_as={"westeurope": EU}, image_table=images, **table)

    def make_physics(self) -> Physics:
        """Return the account by the shared clock."""
        self.clock = self._clock
        return super().make_physics()


class ShelfBackend(MemoryBackend):
    """The reference backend, with one small shape in the market's region, currency and image."""

    def capabilities(self) -> Any:
        """Return what the one shape declares."""
        return (self._ours(self._offer(SHAPES[0])).capability,)

    @staticmethod
    def _ours(offer: Any) -> Any:
        return evolve(offer, region=EU, images=(IMAGE,), cost=evolve(offer.cost, currency="USD"))

    async def offers(self) -> Any:
        """Return the one shape, where it is free."""
        return tuple(self._ours(offer) for offer in await super().offers() if offer.shape == "small")

    async def provision(self, order: Order) -> Any:
        """Make it as the account calls it."""
        return await super().provision(evolve(order, image=ImageRef(f"vm:{IMAGES[0]}")))


class Shelf(MemoryCloud):
    """An account in memory by the shared clock."""

    def __init__(self, clock: HurriedClock) -> None:
        super().__init__(self._opened)
        self.clock = clock

    @asynccontextmanager
    async def _opened(self, context: BackendContext, config: MemoryConfig) -> AsyncIterator[Backend]:
        key = context.read_secret(config.api_key)
        yield ShelfBackend(evolve(context, name=SHELF), connect(config.endpoint, key))


@frozen
class Clouds:
    """What a coalition's bridges sell: every account, in the order of the boot file."""

    clock: HurriedClock
    worlds: dict[BackendName, Any]

    def image(self) -> ImageRef:
        """Return the image that every account has."""
        return ImageRef(f"vm:{IMAGE}")

    async def open_backends(self, stack: AsyncExitStack) -> list[Backend]:
        """Open a backend on each account."""
        # Without a catalog, where a backend needs one: the bridge fetches it.
        opened = [getattr(world, "open_backend", world.open)() for world in self.worlds.values()]
        return [await stack.enter_async_context(one) for one in opened]

    async def running(self) -> frozenset[str]:
        """Return every machine, after the name of its backend."""
        found = {name: await world.running() for name, world in self.worlds.items()}
        return frozenset(f"{name} {id_}" for name, ids in found.items() for id_ in ids)

    async def leftovers(self) -> frozenset[str]:
        """Return what stands beside machines at the three clouds."""
        left: list[frozenset[str]] = [
            await world.leftovers() for world in self.worlds.values() if isinstance(world, CloudWorld)
        ]
        return frozenset[str]().union(*left)


@contextmanager
def clouds(*, speed: int = 20, **table: Any) -> Iterator[Clouds]:
    """Run the accounts; ``table`` changes what each cloud's backend is configured with."""
    clock = HurriedClock(speed=speed)
    with ExitStack() as stack:
        worlds: dict[BackendName, Any] = {
            AWS: stack.enter_context(Aws(clock, **table)),
            GCP: stack.enter_context(Gcp(clock, **table)),
            AZURE: stack.enter_context(Azure(clock, **table)),
        }
        yield Clouds(clock, {**worlds, SHELF: Shelf(clock)})
