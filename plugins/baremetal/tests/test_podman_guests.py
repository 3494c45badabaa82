"""What a container may not do, however hard its requester tries."""

import secrets
import socketserver
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from anyio import to_thread
from attrs import evolve, frozen

from compute_bridge.model.ids import InstanceId
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.ports.backend import Backend, Instance
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import UnservableError
from compute_bridge_baremetal.testing.login import Finished, log_in
from compute_bridge_baremetal.testing.podman_world import PodmanWorld

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.needs("sshd", "openssh-client", "podman", "nft", "ip"),
]

_GREET = """
import socketserver, sys
class Greeter(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b'hello\\n')
with socketserver.TCPServer(('0.0.0.0', 7777), Greeter) as server:
    print('ready', flush=True)
    server.serve_forever()
"""


@pytest.fixture
async def backend(pods: PodmanWorld) -> AsyncIterator[Backend]:
    async with pods.open() as backend:
        yield backend


async def provision(pods: PodmanWorld, backend: Backend, policy: NetworkPolicy) -> Instance:
    order = pods.order((await backend.offers())[0])
    return await backend.provision(evolve(order, requirements=evolve(order.requirements, network=policy)))


# --- limits -----------------------------------------------------------------------------------


async def test_a_memory_hog_is_killed_and_the_login_survives(pods: PodmanWorld, backend: Backend):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)
    hog = await log_in(instance, "bash -c 'head -c 400000000 /dev/zero | tail; echo ended ${PIPESTATUS[1]}'")
    after = await log_in(instance, "echo alive")

    assert hog.stdout == b"ended 137\n"
    assert after.stdout == b"alive\n"


async def test_a_fork_bomb_is_stopped_and_the_machine_survives(pods: PodmanWorld, backend: Backend):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)
    bomb = await log_in(instance, "i=0; while [ $i -lt 200 ]; do sleep 30 >/dev/null 2>&1 & i=$((i+1)); done")
    await backend.terminate(instance.id)

    assert b"fork" in bomb.stderr
    assert await pods.running() == frozenset()


async def test_cpu_is_held_to_what_was_ordered(pods: PodmanWorld, backend: Backend):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)
    before = await backend.usage(instance.id)
    await log_in(instance, "bash -c 'for i in 1 2 3; do while :; do :; done & done; sleep 3; kill %1 %2 %3'")
    after = await backend.usage(instance.id)
    wall = after.wall_ms.value - before.wall_ms.value

    assert after.core_ms.value - before.core_ms.value <= wall * 0.5
    assert after.core_ms.value - before.core_ms.value >= 500


async def test_root_in_a_container_is_nobody_outside(pods: PodmanWorld, backend: Backend):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)
    mapped = await log_in(instance, "cat /proc/self/uid_map")

    assert mapped.stdout.split() == [b"0", b"1000000", b"65536"]


# --- network ----------------------------------------------------------------------------------


@frozen
class Outside:
    """Another host: its address, one in a denied range, and the rack host's own on that link."""

    public: str
    private: str
    rack_host: str


@pytest.fixture
def outside() -> Iterator[Outside]:
    at = 4 * secrets.randbelow(60)
    addresses = Outside(f"198.51.100.{at + 2}", f"10.254.7.{at + 2}", f"198.51.100.{at + 1}")
    with _linked(f"cbt{secrets.token_hex(3)}", at) as space, _greeter(space), _rack_host_greeter(addresses):
        yield addresses


@contextmanager
def _linked(name: str, at: int) -> Iterator[str]:
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        for block in ("198.51.100", "10.254.7"):
            _ip("address", "add", f"{block}.{at + 1}/30", "dev", f"{name}a")
            _ip("-n", name, "address", "add", f"{block}.{at + 2}/30", "dev", f"{name}b")
        _ip("link", "set", f"{name}a", "up")
        _ip("-n", name, "link", "set", f"{name}b", "up")
        yield name
    finally:
        _ip("netns", "delete", name)


@contextmanager
def _greeter(space: str) -> Iterator[None]:
    command = ["ip", "netns", "exec", space, sys.executable, "-c", _GREET]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


@contextmanager
def _rack_host_greeter(addresses: Outside) -> Iterator[None]:
    class Greeter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"hello\n")

    with socketserver.TCPServer((addresses.rack_host, 7778), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def _reach(instance: Instance, address: str, port: int) -> Finished:
    script = f"exec 3<>/dev/tcp/{address}/{port} && head -c 5 <&3"
    # A dropped connection says nothing, so the attempt is given up, not waited for.
    return await log_in(instance, f"bash -c '{script}' & sleep 1.5; kill $! 2>/dev/null")


async def test_egress_reaches_out(pods: PodmanWorld, backend: Backend, outside: Outside):
    instance = await provision(pods, backend, NetworkPolicy.EGRESS)

    assert (await _reach(instance, outside.public, 7777)).stdout == b"hello"


async def test_isolated_reaches_nothing(pods: PodmanWorld, backend: Backend, outside: Outside):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)

    assert (await _reach(instance, outside.public, 7777)).stdout == b""


async def test_egress_does_not_reach_a_denied_range(pods: PodmanWorld, backend: Backend, outside: Outside):
    instance = await provision(pods, backend, NetworkPolicy.EGRESS)

    assert (await _reach(instance, outside.private, 7777)).stdout == b""


@pytest.mark.parametrize("policy", NetworkPolicy)
async def test_no_guest_reaches_the_rack_host(
    pods: PodmanWorld, backend: Backend, outside: Outside, policy: NetworkPolicy
):
    instance = await provision(pods, backend, policy)

    assert (await _reach(instance, outside.rack_host, 7778)).stdout == b""


@pytest.mark.parametrize("policy", NetworkPolicy)
async def test_no_guest_reaches_another(pods: PodmanWorld, backend: Backend, policy: NetworkPolicy):
    instance = await provision(pods, backend, policy)
    other = await provision(pods, backend, policy)

    assert (await _reach(instance, await to_thread.run_sync(_address, pods, other.id), 22)).stdout == b""


async def test_the_fence_of_one_stands_when_another_goes(pods: PodmanWorld, backend: Backend, outside: Outside):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)
    other = await provision(pods, backend, NetworkPolicy.ISOLATED)
    await backend.terminate(other.id)

    assert (await _reach(instance, outside.public, 7777)).stdout == b""


async def test_nothing_of_a_lease_is_left_on_the_machine(pods: PodmanWorld, backend: Backend):
    before = await to_thread.run_sync(_traces, pods)
    instance = await provision(pods, backend, NetworkPolicy.EGRESS)
    during = await to_thread.run_sync(_traces, pods)
    await backend.terminate(instance.id)

    assert during != before
    assert await to_thread.run_sync(_traces, pods) == before


def _traces(pods: PodmanWorld) -> list[Any]:
    networks = [name for name in pods.store.podman("network", "ls", "--quiet").split() if name.startswith("cb-")]
    leases = sorted(path.name for path in pods.folder.glob("r*/state/leases/*"))
    forwards = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    addresses = {sshd.address for sshd in pods.sshds}
    return [networks, pods.store.containers(), leases, [word for word in forwards.split() if word in addresses]]


def _address(pods: PodmanWorld, instance: InstanceId) -> str:
    token = instance.rpartition("/")[2]
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return pods.store.podman("inspect", "--format", template, f"cb-{token[:24]}").strip()


# --- images -----------------------------------------------------------------------------------


async def test_a_container_that_ends_at_once_is_refused_with_what_it_said(pods: PodmanWorld, backend: Backend):
    order = pods.order((await backend.offers())[0])
    nobody = evolve(order, access=evolve(order.access, user="nobody"))

    with pytest.raises(UnservableError, match="the image has no user nobody"):
        await backend.provision(nobody)
    assert await pods.running() == frozenset()


async def test_the_instance_tells_the_digest_that_was_verified(pods: PodmanWorld, backend: Backend):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)

    assert instance.image_digest.hex() == pods.store.image.digest


async def test_traffic_is_metered(pods: PodmanWorld, backend: Backend):
    instance = await provision(pods, backend, NetworkPolicy.ISOLATED)
    before = await backend.usage(instance.id)
    await log_in(instance, "head -c 3000000 /dev/zero")

    async def grown() -> bool | None:
        usage = await backend.usage(instance.id)
        return usage.net_out_bytes.value - before.net_out_bytes.value > 3_000_000 or None

    assert await poll(pods.clock, 50, grown)
