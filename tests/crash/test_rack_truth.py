"""What is told of a rack host, against leases that are still there: the matrix sees what it should not find."""

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from crashkit.rack import open_pods, open_rack, prepare_store

pytestmark = pytest.mark.anyio

CLOUDS = [
    pytest.param(open_rack, {"folder", "process", "port"}, marks=pytest.mark.needs("sshd", "openssh-client", "nft")),
    pytest.param(
        open_pods,
        {"folder", "process", "container", "network", "firewall"},
        marks=pytest.mark.needs("sshd", "openssh-client", "podman", "nft", "ip"),
    ),
]


@pytest.fixture
def cloud(request, tmp_path):
    # Podman takes no path of more than fifty letters.
    with TemporaryDirectory(prefix="cb-", ignore_cleanup_errors=True) as ground:
        with prepare_store(Path(ground)), request.param(tmp_path, Path(ground)) as cloud:
            yield cloud


async def cleared(cloud):
    """Return what remains; the bridge of another test's lease may be going at this moment, its fence a moment later."""
    left = []
    with anyio.move_on_after(30):
        while left := await to_thread.run_sync(cloud.remains):
            await checkpoint()
    return left


@pytest.mark.parametrize(("cloud", "kinds"), CLOUDS, indirect=["cloud"])
async def test_a_lease_that_runs_is_told_with_all_that_it_takes_and_one_that_ended_with_its_life(cloud, kinds):
    async with cloud.world.open() as backend:
        instance = await backend.provision(cloud.world.order((await backend.offers())[0]))
        [live], remains = cloud.machines(), await to_thread.run_sync(cloud.remains)
        await backend.terminate(instance.id)
    [dead] = cloud.machines()

    assert (instance.token.hex(), instance.started_at, None) == (live.token, live.started_ms, live.ended_ms)
    assert kinds <= {what.split()[0] for what in remains}
    assert (live.id, live.grant_hash, live.started_ms) == (dead.id, dead.grant_hash, dead.started_ms)
    assert dead.ended_ms >= dead.started_ms
    assert [] == await cleared(cloud)


@pytest.mark.needs("sshd", "openssh-client", "nft")
@pytest.mark.parametrize("how", ["sshd", "nft", "dead", "lose-create", "drop-create"])
@pytest.mark.parametrize("cloud", [open_rack], indirect=True)
async def test_a_cut_leaves_nothing_of_itself(cloud, how):
    restore = await to_thread.run_sync(cloud.cut, how)
    has_cut = await to_thread.run_sync(restore)
    async with cloud.world.open() as backend:
        offers = await backend.offers()

    assert len(offers) == 1
    # Nothing was made, so the lever of a create has cut nothing.
    assert has_cut is not how.endswith("create")
