"""A rack host without a free byte: nothing half-made, and every end goes through."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from anyio import to_thread

from compute_bridge.ports.backend import Backend, ExitCause, Instance, Order
from compute_bridge.ports.errors import NoCapacityError
from compute_bridge_baremetal.testing.world import RackWorld, rack_world

# Of podman only that it wants root, as a mount does.
pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd", "openssh-client", "mount", "podman")]


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[RackWorld]:
    """Run one rack host whose state is on a disk of its own, of half a megabyte."""
    disk = tmp_path / "r0/state"
    with rack_world(tmp_path, machines=1) as world:
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], check=True)
        try:
            yield world
            world.clean()
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
async def backend(rack: RackWorld) -> AsyncIterator[Backend]:
    async with rack.open() as backend:
        yield backend


@pytest.fixture
async def order(rack: RackWorld, backend: Backend) -> Order:
    return rack.order((await backend.offers())[0])


@pytest.fixture
async def instance(backend: Backend, order: Order) -> Instance:
    return await backend.provision(order)


async def fill(rack: RackWorld) -> Path:
    path = rack.state_of(0) / "filler"
    await to_thread.run_sync(_fill, path)
    return path


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def test_a_create_is_refused_for_want_of_room_and_leaves_nothing(rack: RackWorld, backend: Backend, order: Order):
    filler = await fill(rack)
    with pytest.raises(NoCapacityError, match="is the disk full"):
        await backend.provision(order)
    await to_thread.run_sync(filler.unlink)

    assert await rack.running() == frozenset()
    assert await backend.find(order.token) is None


async def test_an_end_goes_through(rack: RackWorld, backend: Backend, instance: Instance):
    await fill(rack)
    await backend.terminate(instance.id)

    assert await rack.running() == frozenset()
    assert (await backend.watch_until_exit(instance.id)).cause in {ExitCause.TERMINATED, ExitCause.LOST}


async def test_what_runs_is_still_listed_and_metered(rack: RackWorld, backend: Backend, instance: Instance):
    before = await backend.usage(instance.id)
    await fill(rack)

    assert await backend.list_owned() == (instance,)
    assert (await backend.usage(instance.id)).wall_ms.value >= before.wall_ms.value
