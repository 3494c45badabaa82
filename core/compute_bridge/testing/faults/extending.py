"""Faults in moving a machine's end."""

from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.errors import UnavailableError, UnservableError
from compute_bridge.testing.faults.planted import Faulty, planted


@planted("test_extend_moves_the_end", says="found to end at")
class ExtendsNothing(Faulty):
    """Says that it has extended, and does nothing."""

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Return."""


@planted("test_extend_of_the_gone_is_refused", says="DID NOT RAISE")
class ExtendsTheDead(Faulty):
    """Says that it has extended a machine that is gone."""

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Return for a machine that is not there."""
        try:
            await super().extend(instance, ends_at)
        except UnservableError:
            return


@planted("test_extend_in_silence_is_unknown", says="DID NOT RAISE")
class ExtendsInSilence(Faulty):
    """Takes an extension that nothing answered for one that was made."""

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Return whatever happens."""
        try:
            await super().extend(instance, ends_at)
        except UnavailableError:
            return
