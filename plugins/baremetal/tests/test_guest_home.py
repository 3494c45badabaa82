"""A login of the driver ``process`` has a home of its own, in place of that of the rack host's user."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from compute_bridge.ports.backend import Backend
from compute_bridge_baremetal.guest_sshd import read_settings
from compute_bridge_baremetal.testing.login import log_in
from compute_bridge_baremetal.testing.world import RackWorld

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd", "openssh-client")]


@pytest.fixture
async def backend(rack: RackWorld) -> AsyncIterator[Backend]:
    async with rack.open() as backend:
        yield backend


async def test_what_a_login_leaves_at_home_goes_with_the_lease(backend: Backend, rack: RackWorld):
    instance = await backend.provision(rack.order((await backend.offers())[0]))
    done = await log_in(instance, "touch ~/left && cd && pwd -P")
    home = anyio.Path(done.stdout.decode().strip())
    was_there = await (home / "left").exists()

    await backend.terminate(instance.id)

    assert home.is_relative_to(rack.folder)
    assert was_there
    assert not await home.exists()


def test_the_server_in_python_takes_several_variables(tmp_path: Path):
    settings = read_settings("Port 22\nHostKey key\nAuthorizedKeysFile keys\nSetEnv A=1 HOME=/a=b\n")

    assert settings.environment == {"A": "1", "HOME": "/a=b"}
