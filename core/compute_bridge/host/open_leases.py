"""Which machines the journal says that we have: those of the open leases, each under its latest token."""

from attrs import define, field, frozen

from compute_bridge.host.lease_state import LeaseState, ProvisionIntended, Running, read_facts
from compute_bridge.host.orders import offer_of
from compute_bridge.model.ids import BackendName, GrantId, InstanceId, Token
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.journal import Journal

_WITHOUT_MACHINE = (LeaseState.ENDED, LeaseState.LOGGED, LeaseState.SETTLED)
_RUNNING = (LeaseState.RUNNING, LeaseState.DELIVERED)


@frozen
class OpenLease:
    """A lease that has a machine, or may have; ``instance`` is known once the machine runs."""

    grant: GrantId
    state: LeaseState
    token: Token
    backend: BackendName
    instance: InstanceId | None
    offer: Offer

    @property
    def is_running(self) -> bool:
        """Whether its machine runs, as far as the journal knows; not while it is made or ended."""
        return self.state in _RUNNING


@define
class OpenLeases:
    """Reads the open leases, each again only when its state was set anew since the last time."""

    journal: Journal
    _read: dict[GrantId, tuple[int, OpenLease | None]] = field(factory=dict, init=False)

    async def read(self) -> tuple[OpenLease, ...]:
        """Return every open lease for which a machine was asked.

        :raises JournalError: if the journal cannot be read.
        """
        kept = {}
        for row in await self.journal.lease_states(excluding=[state.value for state in _WITHOUT_MACHINE]):
            grant = GrantId(row.lease)
            sequence, lease = self._read.get(grant, (0, None))
            # An attempt is intended in the same event that sets the state: no newer state, no newer token.
            if sequence != row.updated_sequence:
                lease = await self._lease(grant, LeaseState(row.state))
            kept[grant] = row.updated_sequence, lease
        self._read = kept
        return tuple(lease for _, lease in kept.values() if lease is not None)

    async def _lease(self, grant: GrantId, state: LeaseState) -> OpenLease | None:
        facts = await read_facts(self.journal, grant)
        intended, running = facts.get(ProvisionIntended), facts.get(Running)
        if intended is None:
            return None
        instance = running.instance.id if running else None
        return OpenLease(grant, state, intended.token, intended.backend, instance, offer_of(intended.offer))
