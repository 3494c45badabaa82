"""Faults in telling that a machine will be taken away."""

from collections.abc import Callable

import anyio
from attrs import evolve

from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import HOUR_MS, UtcMs
from compute_bridge.ports.backend import Instance
from compute_bridge.ports.errors import UnavailableError
from compute_bridge.ports.notices import Interruption
from compute_bridge.testing.faults.planted import Faulty, planted
from compute_bridge.testing.memory_account import CloudError, Machine


class _Overtold(Faulty):
    def _of(self, which: Callable[[Machine], bool]) -> tuple[Interruption, ...]:
        machines = [machine for machine in self.account.machines.values() if which(machine)]
        return tuple(Interruption(InstanceId(machine.id), UtcMs(machine.leaves_ms)) for machine in machines)


@planted("test_a_notice_names_the_machine", says="alone will be taken away")
class AnnouncesEveryMachine(_Overtold):
    """Takes a notice of one machine for a notice of all."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return every machine that runs."""
        await super().next_notices()
        return self._of(lambda machine: not machine.is_gone)


@planted("test_a_notice_names_the_machine", says="it is said to go at")
class TellsTheStartForTheMoment(Faulty):
    """Tells when the machine started for when it goes."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return the wrong column of the vendor's record."""
        told = await super().next_notices()
        return tuple(evolve(one, at=UtcMs(self.account.machines[one.instance].started_ms - HOUR_MS)) for one in told)


@planted("test_strangers_are_not_announced", says="of them is ours")
class AnnouncesStrangers(_Overtold):
    """Announces whatever the account does."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return also what is not ours."""
        await super().next_notices()
        return self._of(lambda machine: machine.leaves_ms > 0)


@planted("test_a_notice_is_told_once", says="is told again")
class RepeatsItself(Faulty):
    """Tells what stands each time that it is asked."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Forget what was told."""
        self._announced = frozenset()
        return await super().next_notices()


@planted("test_a_notice_is_told_once", says="is not all that stands")
class TellsTheNewAlone(Faulty):
    """Leaves out what it has told before."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return the new."""
        before = self._announced
        return tuple(one for one in await super().next_notices() if one.instance not in before)


@planted("test_another_process_is_told_again", says="did not tell a notice")
class TakesNoticesOffTheQueue(Faulty):
    """Takes a notice away from the account as it reads it."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Read what nobody can read again."""
        told = await super().next_notices()
        for one in told:
            self.account.put(evolve(self.account.machines[one.instance], leaves_ms=0))
        return told


@planted("test_another_process_is_told_again", says="and this one was told")
class TellsAnotherMomentEachTime(Faulty):
    """Tells a moment that is counted from when it was asked."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return a moment of its own making."""
        told = await super().next_notices()
        return tuple(evolve(one, at=UtcMs(self._context.clock.utc_ms() + HOUR_MS)) for one in told)


@planted("test_another_process_is_told_again", "test_a_notice_is_told_once", says="alone")
class ReadsOneNotice(Faulty):
    """Reads only the first page of what is announced."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return the first notice."""
        return (await super().next_notices())[:1]


@planted("test_nothing_is_announced_while_nothing_is", says="() is announced")
class AnswersWithNothing(Faulty):
    """Does not wait."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return whatever there is."""
        with anyio.move_on_after(0):
            return await super().next_notices()
        return ()


@planted("test_nothing_is_announced_while_nothing_is", says="is announced")
class SwallowsCancellationInAWait(Faulty):
    """Takes a cancellation for an answer."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return when cancelled."""
        try:
            return await super().next_notices()
        except anyio.get_cancelled_exc_class():
            return ()


@planted("test_waiting_for_notices_can_be_cancelled", says="did not tell a notice")
class MarksBeforeItReturns(Faulty):
    """Marks a notice as told, and is cancelled before it has told it."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Wait once more after the mark."""
        told = await super().next_notices()
        await self._context.clock.sleep_ms(HOUR_MS)
        return told


@planted("test_silence_announces_nothing", says="() is announced")
class TakesSilenceForNoNotice(Faulty):
    """Announces nothing where nothing answers, as an answer."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return nothing for silence."""
        try:
            return await super().next_notices()
        except UnavailableError:
            return ()


@planted("test_silence_announces_nothing", says="CloudError: timeout")
class LetsTheSdkOutOfAWait(Faulty):
    """Lets the SDK's error out where it waits."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Raise what the SDK raises."""
        try:
            return await super().next_notices()
        except UnavailableError as error:
            raise CloudError("timeout", "no answer") from error


@planted("test_silence_announces_nothing", says="does not say which backend failed")
class IsNamelessInAWait(Faulty):
    """Does not say which backend failed to tell its notices."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Raise a message without the name."""
        try:
            return await super().next_notices()
        except UnavailableError as error:
            raise UnavailableError("no answer") from error


@planted("test_an_announced_machine_can_be_terminated", says="is announced and not gone")
class TakesTheAnnouncedForGone(Faulty):
    """Lists what is announced no more."""

    async def list_owned(self) -> tuple[Instance, ...]:
        """Leave out what will be taken away."""
        machines = self.account.machines
        return tuple(one for one in await super().list_owned() if not machines[one.id].leaves_ms)


@planted("test_an_announced_machine_can_be_terminated", says="it runs on")
class LeavesTheAnnouncedToTheVendor(Faulty):
    """Ends nothing that will be taken away in any case."""

    async def terminate(self, instance: InstanceId) -> None:
        """Return for an announced machine."""
        machine = self.account.machines.get(instance)
        if machine is None or not machine.leaves_ms:
            await super().terminate(instance)


@planted("test_an_announced_machine_can_be_terminated", says="every machine is gone")
class AnnouncesTheGone(_Overtold):
    """Announces what has ended already."""

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return also what is gone."""
        return self._of(lambda machine: machine.leaves_ms > 0) or await super().next_notices()
