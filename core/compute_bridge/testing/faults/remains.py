"""Faults in telling what stands of machines that do not run."""

from attrs import evolve

from compute_bridge.model.ids import InstanceId
from compute_bridge.ports.errors import UnavailableError
from compute_bridge.ports.remains import Remains
from compute_bridge.testing.faults.planted import Faulty, planted
from compute_bridge.testing.memory_account import Machine


@planted("test_what_runs_does_not_remain", says="is told to remain")
class TellsTheLiving(Faulty):
    """Tells whatever stands, what runs also."""

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return every machine that is not gone."""
        live = await self.list_owned()
        return (*await super().list_remains(), *(Remains(one.id, one.token, one.ownership) for one in live))


@planted("test_what_was_powered_off_remains_until_it_is_terminated", says="is told to remain of")
class SeesNoneThatIsOff(Faulty):
    """Sees only what runs."""

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return nothing."""
        return ()


@planted("test_what_was_powered_off_remains_until_it_is_terminated", says="and list_owned() tells")
class TakesWhatIsOffForLive(Faulty):
    """Takes a machine that was powered off for one that runs."""

    async def _live(self, token: object = None) -> tuple[Machine, ...]:
        return await self._standing()


@planted("test_what_was_powered_off_remains_until_it_is_terminated", says="terminate() returned, and")
class EndsOnlyWhatRuns(Faulty):
    """Takes a machine that does not run for one that is gone."""

    async def terminate(self, instance: InstanceId) -> None:
        """Look among the live alone."""
        if instance in {machine.id for machine in await self._live()}:
            await super().terminate(instance)


@planted("test_what_was_powered_off_remains_until_it_is_terminated", says="though it was terminated")
class RemembersWhatRemained(Faulty):
    """Tells what it once saw."""

    _seen: tuple[Remains, ...] = ()

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return the first that was ever there."""
        self._seen = self._seen or await super().list_remains()
        return self._seen


@planted("test_remains_prove_whose_they_are", says="prove another origin")
class CutsTheMac(Faulty):
    """Tells what remains without its mac."""

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return another mac."""
        return tuple(
            evolve(one, ownership=evolve(one.ownership, mac=bytes(32))) for one in await super().list_remains()
        )


@planted("test_what_remains_of_strangers_is_not_told", says="is not ours")
class TellsWhatRemainsOfAll(Faulty):
    """Tells whatever of the account is off."""

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return everybody's, under the marks of ours."""
        found = await super().list_remains()
        off = [InstanceId(machine.id) for machine in self.account.machines.values() if machine.state == "off"]
        return tuple(evolve(found[0], id=id_) for id_ in off) if found else ()


@planted("test_silence_is_not_nothing_that_remains", says="DID NOT RAISE")
class TakesSilenceForNothing(Faulty):
    """Takes an account that does not answer for one in which nothing stands."""

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return nothing for silence."""
        try:
            return await super().list_remains()
        except UnavailableError:
            return ()


@planted("test_silence_is_not_nothing_that_remains", says="does not say which backend failed")
class IsNamelessAboutRemains(Faulty):
    """Does not say which backend is silent."""

    async def list_remains(self) -> tuple[Remains, ...]:
        """Raise a message without the name."""
        try:
            return await super().list_remains()
        except UnavailableError as error:
            raise UnavailableError("no answer") from error
