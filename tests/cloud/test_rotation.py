"""The backend over a cloud replaces the host key that the cloud has seen, whatever happens on the way."""

import logging
import shutil
import subprocess
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from toycloud.cloud import ToyApi, ToyCloud
from toycloud.world import ToyWorld

from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.settings import HostKey
from compute_bridge.cloud.ssh import rotate_host_key, shown_host_key
from compute_bridge.cloud.tags import HOST_KEY, HOST_KEY_SOURCE
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.backend import BackendContext, HostKeySource
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import UnservableError
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guest_document import GuestDocument, sshd_settings
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.toy import ZONES

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd", "root")]


@pytest.fixture
def world():
    with ToyWorld(host_key=HostKey.ROTATED) as world:
        yield world


@pytest.fixture
def cloud(world):
    """The calls of another process, which may die after any of them."""
    settings = world.settings()
    context = BackendContext(BackendName("toy"), world.clock, lambda _: b"")
    return ToyCloud(context, settings, ToyApi(settings.port, world.secrets()[0]))


async def an_order(world, backend):
    return world.order((await backend.offers())[0])


async def running(cloud):
    """Return the one machine, once it takes logins."""
    while True:
        [machine] = (await cloud.machines("")).values()
        if machine.host and await shown_host_key(machine.host, machine.tags.port, within_s=10):
            return machine


async def shown(instance):
    return await shown_host_key(instance.host, instance.port, within_s=10)


async def test_a_machine_shows_the_next_key_and_its_instance_tells_so(world):
    async with world.open() as backend:
        order = await an_order(world, backend)
        instance = await backend.provision(order)

    assert instance.host_key_source is HostKeySource.ROTATED
    assert instance.host_key == order.access.rotation.host_key == await shown(instance)
    assert [call.op for call in world.physics.calls if call.changes] == ["create"]


async def test_a_bridge_that_died_before_the_rotation_is_followed_by_one_that_rotates(world, cloud):
    async with world.open() as backend:
        order = await an_order(world, backend)
        await cloud.create(order)
        await running(cloud)
        instance = await backend.provision(order)

    assert instance.host_key == order.access.rotation.host_key == await shown(instance)
    assert await world.running() == {instance.id}


async def test_a_bridge_that_died_after_the_rotation_is_followed_by_one_that_finds_it_done(world, cloud, caplog):
    async with world.open() as backend:
        order = await an_order(world, backend)
        await cloud.create(order)
        machine = await running(cloud)
        await rotate_host_key(machine.host, machine.tags.port, order.access, within_s=10)
        with caplog.at_level(logging.WARNING):
            instance = await backend.provision(order)

    assert instance.host_key == order.access.rotation.host_key == await shown(instance)
    assert caplog.text == ""


async def test_a_table_that_rotates_no_more_keeps_what_a_machine_was_made_with(world, cloud):
    async with world.open() as backend:
        order = await an_order(world, backend)
        await cloud.create(order)
        await running(cloud)
    world.host_key = HostKey.INJECTED
    async with world.open() as backend:
        found = await backend.find(order.token)
        [owned] = await backend.list_owned()

    assert found == owned
    assert (found.host_key, found.host_key_source) == (order.access.rotation.host_key, HostKeySource.ROTATED)


async def test_a_machine_whose_tags_call_its_key_a_weaker_one_is_ended(world, cloud):
    async with world.open() as backend:
        order = await an_order(world, backend)
        await cloud.create(order)
        machine = await running(cloud)
        weaker = {HOST_KEY: order.access.host_key, HOST_KEY_SOURCE: HostKeySource.INJECTED.value}
        world.physics.retag(machine.id, {**world.physics.get(machine.id).tags, **weaker})
        with pytest.raises(UnservableError, match="see who writes tags in this account"):
            await backend.provision(order)

    assert await world.running() == frozenset()
    assert world.physics.leftovers() == ()


# --- a server that runs ---------------------------------------------------------------------------

SERVED = "127.13.14.15"
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>{folder}/told
case "$1 $2" in
"try-reload-or-restart ssh.service") kill -HUP "$(cat {folder}/sshd.pid)" ;;
*) exit 5 ;;
esac
"""


@contextmanager
def daemon(folder, order, settings):
    """Run one SSH server for all connections, with the files that a guest of ``order`` would have, and a systemctl."""
    document = GuestDocument.read(cloud_config(order, settings, grace_ms=0).encode())
    places = ("/etc/ssh/", "/usr/local/sbin/")

    def moved(text):
        for place in places:
            text = text.replace(place, f"{folder}{place}")
        return text.replace("systemctl ", f"{folder}/systemctl ")

    for place in places:
        Path(f"{folder}{place}").mkdir(parents=True)
    for path, content in document.files.items():
        if f"{Path(path).parent}/" in places:
            Path(f"{folder}{path}").write_text(moved(content))
            Path(f"{folder}{path}").chmod(0o755)
    key = folder / "etc/ssh/ssh_host_ed25519_key"
    key.touch(mode=0o600)
    key.write_text(document.host_key_private)
    (folder / "systemctl").write_text(SYSTEMCTL.format(folder=folder))
    (folder / "systemctl").chmod(0o755)
    own = f"ListenAddress {SERVED}\nPidFile {folder}/sshd.pid\nStrictModes no\nUsePAM no\n"
    (folder / "sshd_config").write_text(own + moved(sshd_settings(document.files)))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", folder / "sshd_config"])
    try:
        yield folder
    finally:
        server.terminate()
        server.wait()


async def test_a_server_that_runs_shows_the_next_key_once_it_is_told_of_it(tmp_path, world):
    settings = world.settings()
    async with world.open() as backend:
        order = await an_order(world, backend)

    async def key():
        return await shown_host_key(SERVED, settings.ssh_port, within_s=10)

    with daemon(tmp_path, order, settings) as folder, anyio.fail_after(60):
        before = await poll(world.clock, 500, key)
        error = await rotate_host_key(SERVED, settings.ssh_port, order.access, within_s=10)

        async def another():
            return shown if (shown := await key()) not in (None, before) else None

        after = await poll(world.clock, 500, another)
        again = await rotate_host_key(SERVED, settings.ssh_port, order.access, within_s=10)

    assert (before, error, after) == (order.access.host_key, "", order.access.rotation.host_key)
    assert (folder / "told").read_text().split()[:2] == ["try-reload-or-restart", "ssh.service"]
    assert not (folder / "etc/ssh/compute-bridge-rotation.keys").exists()
    assert again == "HostKeyNotVerifiable"


class Counting(Guests):
    """Guests that write down when a rotation begins and ends."""

    def __init__(self, book):
        super().__init__()
        self.book = book

    def boot(self, machine, user_data, state):
        told = f"printf + >>{self.book}; sleep 0.2; printf - >>{self.book}\\numask 077".encode()
        return super().boot(machine, user_data.replace(b"umask 077", told), state)


class CountingWorld(ToyWorld):
    def __init__(self, book):
        self.book = book
        super().__init__(host_key=HostKey.ROTATED)

    def settings(self):
        return evolve(super().settings(), calls_at_once=2)

    def make_physics(self):
        return Physics(self.clock, zones=ZONES, guests=Counting(self.book))


async def test_no_more_rotations_are_under_way_than_calls_may_be(tmp_path):
    book = tmp_path / "book"
    with CountingWorld(book) as world:
        async with world.open() as backend, anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(backend.provision, await an_order(world, backend))
    depths = [*accumulate(1 if mark == "+" else -1 for mark in book.read_text())]

    assert max(depths) <= 2
    assert (depths[-1], len(depths)) == (0, 12)


class Closed(Guests):
    """Guests in which the program behind the door does not work."""

    def boot(self, machine, user_data, state):
        return super().boot(machine, user_data.replace(b"ssh-keygen -y", b"false"), state)


class ClosedWorld(ToyWorld):
    """A cloud of such guests, that are given up soon."""

    def settings(self):
        return evolve(super().settings(), ready_s=4)

    def make_physics(self):
        return Physics(self.clock, zones=ZONES, guests=Closed())


async def test_a_guest_that_keeps_its_injected_key_is_ended():
    with ClosedWorld(host_key=HostKey.ROTATED) as world:
        async with world.open() as backend:
            with pytest.raises(UnservableError, match='set host_key = "injected"'):
                await backend.provision(await an_order(world, backend))

        assert await world.running() == frozenset()
        assert world.physics.leftovers() == ()


async def test_why_a_host_key_stays_is_said_once_a_machine_and_without_its_address(caplog):
    caplog.set_level(logging.DEBUG, logger="compute_bridge.cloud")
    with ClosedWorld(host_key=HostKey.ROTATED) as world:
        async with world.open() as backend:
            order = await an_order(world, backend)
            with pytest.raises(UnservableError):
                await backend.provision(order)
    told = [record for record in caplog.records if "not rotated yet" in record.message]

    assert {one.message for one in told} == {f"the host key of {order.ownership.name} is not rotated yet: ProcessError"}
    assert [one.levelno for one in told] == [logging.WARNING, *[logging.DEBUG] * (len(told) - 1)]
    assert len(told) > 1
    assert "127." not in caplog.text
