"""The listings of an account: one for each place that the cloud lists apart, so that a silent one hides no other."""

from functools import cached_property, partial

from compute_bridge.cloud.every import answers, every
from compute_bridge.cloud.listing import Listing
from compute_bridge.cloud.machine import Cloud, Machine, Machines, MachineState
from compute_bridge.model.ids import BackendName, InstanceId, Token
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.clock import Clock


class Seen(dict[InstanceId, Machine]):
    """The machines of one listing."""

    @cached_property
    def by_token(self) -> dict[Token, Machine]:
        """Each token's machine, one that is gone where there is no other; made once for all who wait."""
        found: dict[Token, Machine] = {}
        for machine in self.values():
            other = found.get(machine.tags.token)
            if other is None or (other.state is MachineState.GONE and machine.state is not MachineState.GONE):
                found[machine.tags.token] = machine
        return found

    def of(self, token: Token) -> Machine | None:
        """Return the machine of ``token`` that costs or holds something, or will."""
        machine = self.by_token.get(token)
        return None if machine is None or machine.state is MachineState.GONE else machine


class Places:
    """Every listing of one account, shared by whoever asks."""

    def __init__(self, cloud: Cloud, clock: Clock, *, name: BackendName, every_ms: int) -> None:
        self._cloud = cloud
        told = {place: f"backend {name} {place}".rstrip() for place in cloud.places}
        self._listings = {
            place: Listing(partial(self._read, place), clock, every_ms=every_ms, place=told[place]) for place in told
        }

    async def _read(self, place: str) -> Seen:
        return Seen(await self._cloud.machines(place))

    def of(self, instance: InstanceId) -> Listing[Seen]:
        """Return the listing that shows a machine; any where the id is none of this cloud, for none shows it."""
        return self._at(self._cloud.place_of(instance))

    def where(self, offer: Offer) -> Listing[Seen]:
        """Return the listing that shows the machine of an offer."""
        return self._at(self._cloud.place_for(offer))

    def _at(self, place: str) -> Listing[Seen]:
        return self._listings.get(place) or next(iter(self._listings.values()))

    async def fresh(self) -> Seen:
        """Return what every place lists, from now on.

        :raises BackendError: if one of them does not answer: half a truth would be taken for all of it.
        """
        found = await every({place: listing.fresh for place, listing in self._listings.items()})
        return self._joined(found)

    async def recent(self) -> Machines:
        """Return what every place lists, not older than a tick; raises as :meth:`fresh`."""
        return self._joined(await every({place: listing.recent for place, listing in self._listings.items()}))

    async def find(self, token: Token) -> Machine | None:
        """Return the machine of a token: believed where it is seen; that there is none, only if every place says so.

        :raises BackendError: if none is seen and a place does not answer.
        """
        seen, failures = await answers({place: listing.fresh for place, listing in self._listings.items()})
        machine = next((found for one in seen.values() if (found := one.of(token)) is not None), None)
        if machine is None and failures:
            raise next(failures[place] for place in self._listings if place in failures)
        return machine

    @staticmethod
    def _joined(found: dict[str, Seen]) -> Seen:
        if len(found) == 1:
            return next(iter(found.values()))
        return Seen({id_: machine for seen in found.values() for id_, machine in seen.items()})
