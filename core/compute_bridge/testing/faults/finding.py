"""Faults in telling the truth of the account."""

from attrs import evolve

from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.ports.backend import BackendContext, Instance, Order
from compute_bridge.testing.faults.planted import Faulty, planted
from compute_bridge.testing.memory_account import Client, Machine


class _Remembering(Faulty):
    def __init__(self, context: BackendContext, client: Client) -> None:
        super().__init__(context, client)
        self._made: dict[Token, Instance] = {}

    async def provision(self, order: Order) -> Instance:
        self._made[order.token] = await super().provision(order)
        return self._made[order.token]


@planted("test_find_returns_the_machine_of_a_token", says="find in another process tells None")
class FindsOnlyItsOwn(_Remembering):
    """Finds what this process has made."""

    async def find(self, token: Token) -> Instance | None:
        """Return what the account and this process both know."""
        return await super().find(token) if token in self._made else None


@planted("test_find_forgets_the_dead", says="tells of a machine that died")
class FindsWhatItRemembers(_Remembering):
    """Finds what it once made without asking the account."""

    async def find(self, token: Token) -> Instance | None:
        """Return what this process remembers."""
        return self._made.get(token) or await super().find(token)


@planted(
    "test_find_tells_two_machines_apart",
    "test_find_of_an_unknown_token_is_none",
    says="takes one machine of ours for another",
)
class FindsAnyMachine(Faulty):
    """Finds a machine of ours, whichever."""

    async def find(self, token: Token) -> Instance | None:
        """Return the first machine."""
        owned = await self.list_owned()
        return owned[0] if owned else None


@planted(
    "test_find_forgets_the_terminated",
    "test_find_forgets_the_dead",
    "test_list_owned_forgets_the_gone",
    says="tells of a machine that was terminated",
)
class ListsTheEnded(Faulty):
    """Takes machines that the account still lists for machines that run."""

    async def _live(self, token: Token | None = None) -> tuple[Machine, ...]:
        return await self._client.list(
            lambda machine: "cb-token" in machine.tags and (token is None or machine.tags["cb-token"] == token.hex())
        )


@planted("test_list_owned_tells_every_live_machine", says="is not what runs")
class ListsOnlyItsOwn(_Remembering):
    """Lists what this process has made."""

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return what this process remembers."""
        return tuple(self._made.values())


@planted("test_list_owned_tells_every_live_machine", says="is not what runs")
class ReadsOnePage(Faulty):
    """Reads only the first page of the cloud's answer."""

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return the first machine."""
        return (await super().list_owned())[:1]


@planted("test_list_owned_leaves_out_strangers", says="is ours")
class ListsStrangers(Faulty):
    """Lists machines that are not ours."""

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return a machine of ours for everyone's."""
        owned = await super().list_owned()
        ids = [machine.id for machine in self.account.machines.values()]
        return tuple(evolve(owned[0], id=InstanceId(id_)) for id_ in ids)


@planted("test_ownership_survives_the_process", says="tells another ownership than was ordered")
class LosesTheMac(Faulty):
    """Lets the cloud cut the mac's tag short."""

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return machines whose mac is lost."""
        return tuple(
            evolve(machine, ownership=evolve(machine.ownership, mac=bytes(32)))
            for machine in await super().list_owned()
        )
