"""The SSH server in Python serves session after session on one connection, whatever becomes of each."""

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from compute_bridge.ports.clock import poll
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.wire.keys import ssh_private_file, ssh_public_line
from compute_bridge_baremetal.guest_sshd import _account
from compute_bridge_baremetal.ssh import SshLink, Target, read_login_key, shows_host_key

pytestmark = pytest.mark.anyio

HOST, LOGIN = b"\1" * 32, b"\2" * 32
ADDRESS, PORT = "127.0.0.21", 22990
MORE_THAN_A_PIPE_HOLDS = b"x" * 300_000


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    (folder / "host_key").write_text(ssh_private_file(HOST))
    (folder / "authorized_keys").write_text(f"{ssh_public_line(LOGIN)}\n")
    (folder / "settings").write_text(
        f"Port {PORT}\nListenAddress {ADDRESS}\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nSetEnv HOME={folder}\n"
    )
    command = [sys.executable, "-W", "error", "-m", "compute_bridge_baremetal.guest_sshd", "-D", "-e"]
    with subprocess.Popen([*command, "-f", f"{folder}/settings"]) as server:
        try:
            yield
        finally:
            server.terminate()


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[SshLink]:
    with serving(tmp_path):
        line = ssh_public_line(HOST)
        with anyio.fail_after(60):
            await poll(HurriedClock(speed=1), 20, lambda: shows_host_key(ADDRESS, PORT, line))
        target = Target("guest", ADDRESS, PORT, _account().pw_name, line)
        link = SshLink(target, read_login_key(ssh_private_file(LOGIN).encode(), place="guest"))
        yield link
        await link.close()


async def only(payload: bytes) -> AsyncGenerator[bytes]:
    yield payload


async def test_what_goes_in_comes_out(link: SshLink):
    assert await link.run("cat", only(MORE_THAN_A_PIPE_HOLDS), within_s=20) == MORE_THAN_A_PIPE_HOLDS


@pytest.mark.parametrize(
    "leaving",
    ["exit 3", "exec 0<&-; sleep 0.05", "exec 1>&-; sleep 0.05", "exec 2>&-; sleep 0.05", "kill -KILL $$"],
)
async def test_a_command_that_leaves_early_ends_no_connection(link: SshLink, leaving: str):
    connections = set()
    for _ in range(8):
        await link.run(leaving, only(MORE_THAN_A_PIPE_HOLDS), within_s=20)
        connections.add(link._connection)

    assert await link.run("echo served", only(b""), within_s=20) == b"served\n"
    assert len(connections) == 1
