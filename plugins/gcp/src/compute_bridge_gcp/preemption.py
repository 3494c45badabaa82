"""Which spot machines the vendor is taking away: by their status, and by the operations of their zones.

A status tells alike of a preemption and of somebody's own stop, so the zone is asked which it is: once for each spot
machine that stops, and nothing while none does.
Source: the vendor's pages on Spot VMs, "Preemption process" and "Detect preemption".
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio
from attrs import define, evolve, field

from compute_bridge.cloud.machine import Machine, MachineState
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause
from compute_bridge.ports.errors import BackendError, NoCapacityError, Scope
from compute_bridge.ports.notices import Interruption
from compute_bridge_gcp.ending import exit_in
from compute_bridge_gcp.facts import Operation, Seen
from compute_bridge_gcp.listing import instance_id

logger = logging.getLogger(__name__)

SHUTDOWN_MS = 30_000
"""How long a guest has at most, after the vendor's word if it has one, to shut down. Source: "Preemption process"."""

_STOPPING = frozenset({"STOPPING", "PENDING_STOP"})

Operations = Callable[[InstanceId], Awaitable[list[Operation]]]


@define
class Preemptions:
    """What is known of the spot machines that are stopping; ``None`` for whom nobody preempts."""

    backend: BackendName
    service_account: str
    operations: Operations
    _known: dict[InstanceId, Interruption | None] = field(factory=dict, init=False)
    _complained: bool = field(default=False, init=False)

    @property
    def standing(self) -> Mapping[InstanceId, Interruption]:
        """The notices that stood at the last listing."""
        return {id_: notice for id_, notice in self._known.items() if notice is not None}

    async def look(self, seen: Iterable[Seen]) -> None:
        """Take in a listing of ours, and ask of each spot machine in it that has begun to stop."""
        stopping = {instance_id(one.zone, one.name): one for one in seen if one.is_spot and one.status in _STOPPING}
        self._known = {id_: notice for id_, notice in self._known.items() if id_ in stopping}
        async with anyio.create_task_group() as tasks:
            for id_ in stopping.keys() - self._known.keys():
                tasks.start_soon(self._ask, id_, stopping[id_].notice_ms)

    async def _ask(self, id_: InstanceId, notice_ms: int) -> None:
        try:
            end = exit_in(await self.operations(id_), self.service_account)
        except BackendError as error:
            # It is asked again at the next listing; a listing must not be lost for it.
            self._complain(f"whether {id_} is being preempted is not known: {error}")
            return
        self._complained = False
        if end is not None:
            gone_at = UtcMs(end.ended_at + notice_ms + SHUTDOWN_MS)
            is_preempted = end.cause is ExitCause.PREEMPTED
            self._known[id_] = Interruption(id_, gone_at, end.detail) if is_preempted else None

    def _complain(self, what: str) -> None:
        if not self._complained:
            logger.warning("backend %s: %s", self.backend, what)
        self._complained = True

    def going(self, machine: Machine) -> Machine:
        """Return a machine that is being preempted as one that runs until it is gone, and that no order is given."""
        failure = NoCapacityError(f"backend {self.backend}: {machine.id} is being preempted", scope=Scope.OFFER)
        return evolve(machine, state=MachineState.RUNNING, failure=failure)
