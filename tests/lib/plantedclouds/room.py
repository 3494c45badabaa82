"""Faults in the room that clouds share."""

import anyio
from attrs import evolve

from compute_bridge.cloud.backend import CloudBackend
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, Instance, InstanceExit, Order
from compute_bridge.ports.errors import UnservableError
from compute_bridge.ports.remains import Remains
from plantedclouds.planting import AWS, AZURE, GCP, planted

_NOWHERE = "pending.invalid"


@planted(
    "test_provision_returns_only_a_ready_machine",
    "test_another_process_waits_for_the_machine_too",
    says="before it was ready",
    part="room",
    on=(AWS,),
)
class ReturnsBeforeItRuns(CloudBackend):
    """Returns a machine as soon as a listing shows it."""

    async def _ready(self, order: Order) -> Instance:
        machine = await self.places.where(order.offer).until(lambda seen: seen.by_token.get(order.token))
        return machine.tags.instance(machine.id, host=machine.host or _NOWHERE, started_at=machine.started_at)


@planted("test_a_machine_that_takes_no_login_yet_is_waited_for", says="takes no login", part="room", on=(AWS,))
class ReturnsBeforeTheLogin(CloudBackend):
    """Returns a machine that runs, and dials nobody."""

    async def _answers(self, order: Order, told: set[str]) -> bool | None:
        return True


@planted("test_terminate_removes_the_machine", says="the machine runs on", part="room", on=(GCP,))
class DeletesWithoutWaiting(CloudBackend):
    """Returns from a terminate when the delete was accepted."""

    async def terminate(self, instance: InstanceId) -> None:
        """Ask, and wait for nothing."""
        machine = (await self.places.of(instance).fresh()).get(instance)
        if machine is not None:
            await self._cloud.delete(machine)


@planted(
    "test_what_failed_while_nobody_looked_remains_until_it_is_terminated",
    "test_what_was_powered_off_remains_until_it_is_terminated",
    says="is told to remain, and",
    part="room",
    on=(AZURE,),
)
class SeesOnlyWhatRuns(CloudBackend):
    """Takes what does not run for gone."""

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return nothing."""
        return ()


@planted(
    "test_a_machine_that_dies_before_its_login_leaves_nothing",
    says="this is left at the cloud",
    part="room",
    on=(GCP, AZURE),
)
class KeepsWhatFailed(CloudBackend):
    """Keeps the machine after a definite failure."""

    async def _undo(self, order: Order, error: BaseException) -> None:
        if not isinstance(error, Exception):
            await super()._undo(order, error)


@planted("test_cancelled_provision_leaves_nothing", says="left a machine running", part="room", on=(AWS,))
class KeepsWhatWasCancelled(CloudBackend):
    """Keeps the machine of a provision that was cancelled."""

    async def _undo(self, order: Order, error: BaseException) -> None:
        if not isinstance(error, anyio.get_cancelled_exc_class()):
            await super()._undo(order, error)


@planted(
    "test_a_create_that_is_cancelled_before_it_is_listed_leaves_nothing",
    says="no listing showed yet was left running",
    part="room",
    on=(AZURE,),
)
class UndoesWhatIsListed(CloudBackend):
    """Ends after a cancellation what the next listing shows, and nothing else."""

    async def _discard(self, order: Order) -> None:
        machine = (await self.places.where(order.offer).fresh()).of(order.token)
        if machine is not None:
            await self._cloud.delete(machine)


@planted("test_watch_sees_a_death", says="died by itself is said to have", part="room", on=(AWS, AZURE))
class CallsEachEndATermination(CloudBackend):
    """Tells every end as one that was asked for."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return another cause."""
        return evolve(await super().watch_until_exit(instance), cause=ExitCause.TERMINATED)


@planted("test_a_preempted_machine_is_told_as_preempted", says="is said to have", part="room", on=(AWS, AZURE))
class CallsAPreemptionALoss(CloudBackend):
    """Tells a preemption as a loss."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return another cause."""
        exit_ = await super().watch_until_exit(instance)
        return evolve(exit_, cause=ExitCause.LOST) if exit_.cause is ExitCause.PREEMPTED else exit_


@planted(
    "test_a_deadline_that_is_reached_while_the_bridge_is_down_is_told_as_one",
    says="a deadline with no bridge is told as",
    part="room",
    on=(GCP,),
)
class CallsADeadlineALoss(CloudBackend):
    """Tells a deadline as a loss."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return another cause."""
        exit_ = await super().watch_until_exit(instance)
        return evolve(exit_, cause=ExitCause.LOST) if exit_.cause is ExitCause.DEADLINE else exit_


@planted("test_an_end_is_told_by_its_record_and_alike_for_ever", says="one end is told as at", part="room", on=(AWS,))
class GuessesTheEnd(CloudBackend):
    """Tells the moment at which it looks for that of the end."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return the time by the bridge's clock."""
        exit_ = await super().watch_until_exit(instance)
        return evolve(exit_, ended_at=UtcMs(self._context.clock.utc_ms()))


@planted("test_an_end_is_told_by_its_record_and_alike_for_ever", says="it ended at", part="room", on=(AZURE,))
class TellsTheStartForTheEnd(CloudBackend):
    """Tells an end that is long before the end."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return seconds for milliseconds."""
        exit_ = await super().watch_until_exit(instance)
        return evolve(exit_, ended_at=UtcMs(exit_.ended_at // 1000))


@planted("test_an_end_is_told_by_its_record_and_alike_for_ever", says="ended_at", part="room", on=(AWS,))
class TellsTheEndAsAFloat(CloudBackend):
    """Tells an end in seconds, as a float."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return a float; the value itself refuses it."""
        exit_ = await super().watch_until_exit(instance)
        return evolve(exit_, ended_at=exit_.ended_at / 1000)  # type: ignore[arg-type]


@planted("test_a_duplicate_create_meets_the_first_machine", says="did not send its create", part="room", on=(AZURE,))
class LooksThenCreates(CloudBackend):
    """Looks whether the machine is there, then creates it: a race."""

    async def _create(self, order: Order) -> None:
        if await self.find(order.token) is None:
            await super()._create(order)


@planted("test_a_machine_that_no_listing_shows_yet_is_not_lost", says="is in no listing", part="room", on=(GCP,))
class ConcludesFromOneListing(CloudBackend):
    """Takes a machine that the next listing lacks for lost."""

    def _refuse_absent(self, order: Order, for_ms: int) -> None:
        raise UnservableError(f"backend {self.name}: {order.ownership.name} is in no listing")


@planted("test_two_terminates_and_a_death_end_one_machine", says="has ended by another's hand", part="room", on=(GCP,))
class TakesAnEndForAFailure(CloudBackend):
    """Fails to terminate what ends already."""

    async def terminate(self, instance: InstanceId) -> None:
        """Refuse."""
        machine = (await self.places.of(instance).fresh()).get(instance)
        if machine is not None and not machine.is_live:
            raise UnservableError(f"backend {self.name}: {instance} has ended by another's hand")
        await super().terminate(instance)
