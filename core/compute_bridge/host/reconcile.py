"""The journal against the backends, both ways, before the first grant of a boot is served."""

import logging

from attrs import frozen

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.identity import Identity
from compute_bridge.host.lease_state import OPEN_STATES, LeaseState, ProvisionIntended, read_facts
from compute_bridge.host.orders import is_ours
from compute_bridge.model.ids import BackendName, GrantId, InstanceId, Token, short
from compute_bridge.ports.backend import Instance
from compute_bridge.ports.errors import BackendError, BootError
from compute_bridge.ports.journal import Journal

logger = logging.getLogger(__name__)


@frozen
class Stray:
    """A machine that carries our tags and that no open lease of the journal knows."""

    backend: BackendName
    instance: InstanceId
    is_ours: bool


@frozen
class Findings:
    """What reconciliation found: machines of open leases, machines of none, backends that did not answer."""

    adopted: tuple[Token, ...]
    strays: tuple[Stray, ...]
    silent: tuple[BackendName, ...]


async def reconcile(fleet: Fleet, journal: Journal, identity: Identity) -> Findings:
    """Return what stands where; touches nothing. The backends are listed before the journal is read.

    :raises BootError: if an open lease has its machine on a backend that the boot file no longer names.
    """
    seen, silent = await _list(fleet)
    expected = await _expected(fleet, journal)
    strays = tuple(
        Stray(name, one.id, is_ours(identity, one.ownership)) for name, one in seen if one.token not in expected
    )
    for stray in strays:
        logger.warning("backend %s: instance %s belongs to no open lease", stray.backend, stray.instance)
    return Findings(tuple(one.token for _, one in seen if one.token in expected), strays, tuple(silent))


async def _list(fleet: Fleet) -> tuple[list[tuple[BackendName, Instance]], list[BackendName]]:
    seen, silent = [], []
    for backend in fleet.backends:
        try:
            seen += [(backend.name, one) for one in await backend.list_owned()]
        except BackendError as error:
            # Cannot observe is not dead: its leases stay as they are.
            logger.warning("backend %s does not answer, its leases stand: %s", backend.name, error)
            silent.append(backend.name)
    return seen, silent


async def _expected(fleet: Fleet, journal: Journal) -> set[Token]:
    tokens = set()
    names = {backend.name for backend in fleet.backends}
    for row in await journal.lease_states():
        if LeaseState(row.state) not in OPEN_STATES - {LeaseState.ENDED, LeaseState.LOGGED}:
            continue
        facts = await read_facts(journal, GrantId(row.lease))
        intended = facts.get(ProvisionIntended)
        if intended is None:
            continue
        if intended.backend not in names:
            raise BootError(
                f"lease {short(facts.grant)} has a machine on backend {intended.backend!r}, which the boot "
                "file does not name; name it again until the lease has ended"
            )
        tokens.add(intended.token)
    return tokens
