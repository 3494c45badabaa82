"""Faults in making machines."""

from secrets import token_hex

from attrs import evolve

from compute_bridge.model.ids import Token  # noqa: TC001
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import BackendContext, Instance, Order, Ownership
from compute_bridge.ports.errors import BackendError, NoCapacityError, UnavailableError
from compute_bridge.testing.faults.planted import Faulty, planted
from compute_bridge.testing.memory_account import Client, CloudError, Machine
from compute_bridge.testing.orders import new_token


def _renamed(order: Order) -> Order:
    """Return ``order`` under a name that nothing else has, so that no create of it is refused."""
    ownership = order.ownership
    return evolve(order, ownership=Ownership(f"cb-{token_hex(12)}", ownership.grant_hash, ownership.mac))


@planted("test_provision_starts_one_machine", says="does not run exactly the machine")
class BuysASpare(Faulty):
    """Buys a second machine at once."""

    async def provision(self, order: Order) -> Instance:
        """Provision twice, under two tokens."""
        await super().provision(evolve(_renamed(order), token=new_token()))
        return await super().provision(order)


@planted(
    "test_provision_is_idempotent_by_token",
    "test_provision_is_idempotent_across_processes",
    says="the same order returned",
)
class BuysAnotherOnRetry(Faulty):
    """Buys a second machine on retry."""

    async def provision(self, order: Order) -> Instance:
        """Provision under a new name each time."""
        return await super().provision(_renamed(order))


@planted("test_provision_is_idempotent_across_processes", says="the same order in another process returned")
class KnowsTokensOnlyInMemory(Faulty):
    """Remembers which tokens it has served, and asks nobody else."""

    def __init__(self, context: BackendContext, client: Client) -> None:
        super().__init__(context, client)
        self._served: dict[Token, Instance] = {}

    async def provision(self, order: Order) -> Instance:
        """Provision under a new name unless this process has before."""
        if order.token not in self._served:
            self._served[order.token] = await super().provision(_renamed(order))
        return self._served[order.token]


@planted("test_two_processes_at_once_make_one_machine", says="two processes were told of two machines")
class LooksThenCreates(Faulty):
    """Looks whether the machine is there, then creates it: a race."""

    async def provision(self, order: Order) -> Instance:
        """Find, or provision under a new name."""
        return await self.find(order.token) or await super().provision(_renamed(order))


@planted("test_provision_returns_only_a_ready_machine", says="before it was ready")
class ReturnsBeforeReady(Faulty):
    """Returns before the machine is ready."""

    async def _make(self, order: Order) -> Machine:
        return await self._create(order)


@planted("test_another_process_waits_for_the_machine_too", says="before it was ready")
class TrustsAnothersMachine(Faulty):
    """Takes a machine that another process is making for a finished one."""

    async def _make(self, order: Order) -> Machine:
        live = await self._live(order.token)
        return live[0] if live else await super()._make(order)


@planted("test_cancelled_provision_leaves_nothing", says="left a machine running")
class CleansUpWithoutAShield(Faulty):
    """Cleans up in a cancelled scope, where the first await raises."""

    async def _undo(self, order: Order, error: BaseException) -> None:
        await self._delete(await self._live(order.token))


@planted("test_cancelled_provision_leaves_nothing", says="left a machine running", holds_answer=True)
class CleansUpOnlyWhatItWasToldOf(Faulty):
    """Cleans up by the id that the create returned, and a create that was cut off returned none."""

    _made: str = ""

    async def _create(self, order: Order) -> Machine:
        machine = await super()._create(order)
        self._made = machine.id
        return machine

    async def _undo(self, order: Order, error: BaseException) -> None:
        if self._made:
            await super()._undo(order, error)


@planted("test_provision_answers_the_order", says="the machine tells")
class ForgetsTheEnd(Faulty):
    """Tells an end that nobody ordered."""

    async def provision(self, order: Order) -> Instance:
        """Return the start as the end."""
        instance = await super().provision(order)
        return evolve(instance, ends_at=instance.started_at)


@planted("test_provision_tells_the_start", says="started at")
class TellsTheStartInSeconds(Faulty):
    """Tells the start in seconds."""

    async def provision(self, order: Order) -> Instance:
        """Return a start of long ago."""
        instance = await super().provision(order)
        return evolve(instance, started_at=UtcMs(instance.started_at // 1000))


@planted("test_host_key_is_the_orders", says="is said to be injected, and is another")
class SwapsTheHostKey(Faulty):
    """Tells a host key that is not the order's, and calls it injected."""

    async def provision(self, order: Order) -> Instance:
        """Return the guest's own key as the host's."""
        return evolve(await super().provision(order), host_key=order.access.authorized_key)


@planted("test_provision_starts_one_machine", says="host_key must be")
class TellsNoHostKey(Faulty):
    """Tells no host key."""

    async def provision(self, order: Order) -> Instance:
        """Return an empty host key."""
        return evolve(await super().provision(order), host_key="")


@planted("test_lost_answer_makes_no_second_machine", says="NoCapacityError")
class TakesSilenceForNoCapacity(Faulty):
    """Takes a create whose answer was lost for one that failed."""

    async def provision(self, order: Order) -> Instance:
        """Raise a definite failure for an unknown outcome."""
        try:
            return await super().provision(order)
        except UnavailableError as error:
            raise NoCapacityError(f"backend {self.name}: the create failed") from error


@planted("test_lost_answer_makes_no_second_machine", says="made another machine")
class RetriesUnderANewName(Faulty):
    """Tries a create whose answer was lost again, as another machine."""

    async def provision(self, order: Order) -> Instance:
        """Provision again under a new name."""
        try:
            return await super().provision(order)
        except UnavailableError:
            return await super().provision(_renamed(order))


@planted("test_another_order_gets_another_machine", says="two orders got one machine")
class SharesOneMachine(Faulty):
    """Serves two orders on one machine."""

    async def provision(self, order: Order) -> Instance:
        """Return whatever runs already."""
        owned = await self.list_owned()
        return owned[0] if owned else await super().provision(order)


@planted("test_provision_refuses_what_the_offer_cannot_serve", says="DID NOT RAISE")
class ServesLessThanIsAsked(Faulty):
    """Makes the machine of an offer that is too small."""

    def _refuse_unservable(self, order: Order) -> None:
        pass


@planted("test_provision_refuses_an_unknown_image", says="a refused order left a machine running")
class LeavesWhatDidNotBoot(Faulty):
    """Leaves the machine whose image is not there."""

    async def _undo(self, order: Order, error: BaseException) -> None:
        if not isinstance(error, BackendError):
            await super()._undo(order, error)


@planted("test_provision_refuses_a_vanished_offer", says="DID NOT RAISE")
class SubstitutesAnotherShape(Faulty):
    """Makes another machine where the offer is gone."""

    async def _create(self, order: Order) -> Machine:
        try:
            return await super()._create(order)
        except CloudError:
            return await super()._create(evolve(order, offer=evolve(order.offer, shape="small")))


@planted("test_provision_never_returns_the_dead", says="returned a machine that is gone")
class ReturnsTheDead(Faulty):
    """Returns the machine of a token for ever, also when it has ended."""

    async def _make(self, order: Order) -> Machine:
        known = await self._client.list(lambda machine: machine.name == order.ownership.name)
        return known[0] if known else await super()._make(order)
