"""The promises of a backend that can move a machine's end; skipped where it cannot."""

import pytest

from compute_bridge.model.units import HOUR_MS, UtcMs
from compute_bridge.ports.backend import Backend, Instance, Order, SupportsExtend
from compute_bridge.ports.errors import UnavailableError, UnservableError
from compute_bridge.testing.promises.situation import Situation, end, patience, power, settle
from compute_bridge.testing.world import World


class ExtendingPromises(Situation):
    """What ``extend`` promises."""

    async def test_extend_moves_the_end(self, world: World, backend: Backend, order: Order, instance: Instance) -> None:
        """The new end is the account's: another process reads it; the same extension again changes nothing.

        Troubleshooting: write the end where ``find`` reads it, and move whatever ends the machine by itself too.
        """
        later = UtcMs(order.ends_at + HOUR_MS)
        async with patience(world, "extend"):
            await power(backend, SupportsExtend).extend(instance.id, later)
            await power(backend, SupportsExtend).extend(instance.id, later)
        await settle(world, backend)
        async with world.open() as other:
            found = await other.find(order.token)

        assert found is not None, "find() does not know the machine that was extended"
        assert found.ends_at == later, f"extended to {later}, found to end at {found.ends_at}"

    async def test_extend_of_the_gone_is_refused(self, world: World, backend: Backend, instance: Instance) -> None:
        """A machine that is gone cannot be extended, and ``extend`` says so.

        Troubleshooting: raise ``UnservableError`` for the cloud's "not found"; the requester pays for what it is told.
        """
        extensible = power(backend, SupportsExtend)
        await end(world, backend, instance.id)

        with pytest.raises(UnservableError):
            async with patience(world, "refuse the extension"):
                await extensible.extend(instance.id, UtcMs(instance.ends_at + HOUR_MS))

    async def test_extend_in_silence_is_unknown(self, world: World, backend: Backend, instance: Instance) -> None:
        """Where nothing answers, ``extend`` raises ``UnavailableError``: the old end may stand.

        Troubleshooting: do not answer from memory; only the account's yes is one.
        """
        extensible = power(backend, SupportsExtend)
        await world.go_down()

        with pytest.raises(UnavailableError):
            async with patience(world, "fail"):
                await extensible.extend(instance.id, UtcMs(instance.ends_at + HOUR_MS))
