"""What a requester meets: a login with the pinned key, its own keys only, and an end that comes by itself."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from attrs import evolve

from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import (
    Backend,
    DeadMansSwitch,
    ExitCause,
    Instance,
    Order,
    SupportsDeadMansSwitch,
)
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import UnservableError
from compute_bridge_baremetal.config import Driver
from compute_bridge_baremetal.testing.login import log_in
from compute_bridge_baremetal.testing.world import RackWorld, command_lines

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.needs("sshd", "openssh-client"),
]


@pytest.fixture(params=["process", pytest.param("podman", marks=pytest.mark.needs("podman", "nft"))])
def world(request: pytest.FixtureRequest) -> RackWorld:
    world: RackWorld = request.getfixturevalue({"process": "rack", "podman": "pods"}[request.param])
    return world


@pytest.fixture
async def backend(world: RackWorld) -> AsyncIterator[Backend]:
    async with world.open() as backend:
        yield backend


@pytest.fixture
async def order(world: RackWorld, backend: Backend) -> Order:
    return world.order((await backend.offers())[0])


@pytest.fixture
async def instance(backend: Backend, order: Order) -> Instance:
    return await backend.provision(order)


async def test_a_login_runs_a_command_and_returns_its_status(instance: Instance):
    done = await log_in(instance, "echo hello; exit 7")

    assert (b"hello\n", 7) == (done.stdout, done.returncode)


async def test_another_host_key_ends_the_login(instance: Instance, world: RackWorld, backend: Backend):
    other = await backend.provision(world.order((await backend.offers())[0]))
    mistaken = evolve(instance, host_key=other.host_key)

    assert (await log_in(mistaken, "true")).returncode == 255


async def test_another_key_does_not_log_in(instance: Instance, world: RackWorld, backend: Backend):
    other = await backend.provision(world.order((await backend.offers())[0]))
    stranger = evolve(instance, token=other.token)

    assert (await log_in(stranger, "true")).returncode == 255


async def test_another_user_does_not_log_in(instance: Instance):
    assert (await log_in(instance, "true", user="sshd")).returncode == 255


async def test_the_port_is_closed_after_the_end(backend: Backend, instance: Instance):
    await backend.terminate(instance.id)

    assert (await log_in(instance, "true")).returncode == 255


async def test_the_rack_host_keeps_no_key_after_the_end(world: RackWorld, backend: Backend, instance: Instance):
    await backend.terminate(instance.id)

    assert await to_thread.run_sync(_files_with, world.folder, b"OPENSSH PRIVATE KEY") == []


async def test_what_a_login_left_in_the_background_ends_with_the_lease(backend: Backend, instance: Instance):
    left = await log_in(instance, "(sleep 987654 & sleep 987654 & ) >/dev/null 2>&1; echo left")
    await backend.terminate(instance.id)

    assert left.stdout == b"left\n"
    assert [line for line in await _command_lines() if "987654" in line] == []


async def test_a_lease_ends_on_time_though_every_ssh_server_was_killed_at_once(world: RackWorld, order: Order):
    async with world.open() as backend:
        instance = await backend.provision(_soon(world, order))
        await world.go_down()
        await _until(world, lambda: _is_empty(world))
        await world.come_back()
        seen = await backend.watch_until_exit(instance.id)

    assert seen.cause is ExitCause.DEADLINE
    assert 0 <= seen.ended_at - instance.ends_at <= 60_000


async def test_usage_is_told_after_the_end(backend: Backend, instance: Instance):
    await log_in(instance, "head -c 200000000 /dev/zero | wc -c")
    during = await backend.usage(instance.id)
    await backend.terminate(instance.id)
    after = await backend.usage(instance.id)

    assert 0 < during.core_ms.value <= after.core_ms.value
    assert 0 < during.ram_mib_ms.value <= after.ram_mib_ms.value
    assert 0 < during.wall_ms.value <= after.wall_ms.value


async def test_a_keeper_that_was_killed_is_replaced(world: RackWorld, backend: Backend, instance: Instance):
    first = await world.keeper(instance.id)
    await world.kill_keeper(instance.id)
    await _until(world, lambda: _has_another_keeper(world, backend, instance, first))

    assert await backend.find(instance.token) == instance


async def test_what_is_overdue_with_its_keeper_killed_ends_as_the_rack_host_is_next_asked(
    world: RackWorld, order: Order
):
    async with world.open() as backend:
        instance = await backend.provision(_soon(world, order))
        await world.go_down()
        await world.kill_keeper(instance.id)
        await world.let_pass(instance.ends_at - world.clock.utc_ms())
        await world.come_back()
        with anyio.fail_after(60):
            seen = await backend.watch_until_exit(instance.id)

    assert seen.cause is ExitCause.DEADLINE
    assert await world.running() == frozenset()


async def test_the_switch_is_called_what_it_is_worth(world: RackWorld, backend: Backend):
    assert isinstance(backend, SupportsDeadMansSwitch)
    # Whoever holds a lease of the driver "process" is the user who runs the keeper.
    worth = {Driver.PODMAN: DeadMansSwitch.CLOUD_SIDE, Driver.PROCESS: DeadMansSwitch.GUEST_TIMER}

    assert backend.dead_mans_switch is worth[world.config.driver]


@pytest.mark.needs("podman", "nft")
async def test_from_inside_a_container_its_keeper_is_out_of_reach(pods: RackWorld):
    async with pods.open() as backend:
        instance = await backend.provision(pods.order((await backend.offers())[0]))
        keeper = await pods.keeper(instance.id)
        seen = await log_in(instance, "cat /proc/[0-9]*/cmdline")
        killed = await log_in(instance, f"kill -9 {keeper}")

        assert b"sshd" in seen.stdout
        assert b"\0keep\0" not in seen.stdout
        assert killed.returncode != 0
        assert await pods.keeper(instance.id) == keeper


async def test_one_token_with_two_orders_is_refused(backend: Backend, order: Order, instance: Instance):
    bigger = evolve(order.requirements.resources, mem_mib=order.requirements.resources.mem_mib + 1)
    other = evolve(order, requirements=evolve(order.requirements, resources=bigger))

    with pytest.raises(UnservableError, match="the token was used for another order"):
        await backend.provision(other)


@pytest.mark.parametrize("user", ["root; reboot", "-oProxyCommand", "a b", "$(id)"])
async def test_an_odd_login_name_is_refused(backend: Backend, order: Order, user: str):
    odd = evolve(order, access=evolve(order.access, user=user))

    with pytest.raises(UnservableError, match="is no login name"):
        await backend.provision(odd)


async def test_a_key_with_options_is_refused(backend: Backend, order: Order):
    key = f'command="id" {order.access.authorized_key}'

    with pytest.raises(UnservableError, match="no usable SSH key"):
        await backend.provision(evolve(order, access=evolve(order.access, authorized_key=key)))


async def test_an_end_in_the_past_is_refused(world: RackWorld, backend: Backend, order: Order):
    with pytest.raises(UnservableError, match="the end of the lease has passed"):
        await backend.provision(evolve(order, ends_at=UtcMs(world.clock.utc_ms() - 1)))


def _soon(world: RackWorld, order: Order) -> Order:
    return evolve(order, ends_at=UtcMs(world.clock.utc_ms() + world.near_end_ms))


async def _until(world: RackWorld, probe: Callable[[], Awaitable[bool | None]]) -> None:
    with anyio.fail_after(60):
        await poll(world.clock, 20, probe)


async def _is_empty(world: RackWorld) -> bool | None:
    return None if await world.running() else True


async def _has_another_keeper(world: RackWorld, backend: Backend, instance: Instance, first: int) -> bool | None:
    await backend.list_owned()
    return None if await world.keeper(instance.id) == first else True


async def _command_lines() -> list[str]:
    return await to_thread.run_sync(lambda: list(command_lines()))


def _files_with(folder: Path, words: bytes) -> list[Path]:
    kept = [path for path in folder.glob("r*/state/**/*") if path.is_file()]
    return [path for path in kept if words in path.read_bytes()]
