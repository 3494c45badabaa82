"""The backend whose truth lies in a folder is a verified fake: what the matrix shows is no fault of it."""

import anyio.to_thread
import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.world import World
from crashkit.file_truth import FileTruth, machines_of


class TestFileTruth(BackendConformance):
    @pytest.fixture
    def world(self, tmp_path) -> World:
        return FileTruth(tmp_path)


class TestFileTruthWithAWindow(BackendConformance):
    @pytest.fixture
    def world(self, tmp_path) -> World:
        return FileTruth(tmp_path, window_ms=500)


@pytest.mark.anyio
async def test_the_folder_keeps_the_history_of_every_machine(tmp_path):
    world = FileTruth(tmp_path)
    async with world.open() as backend:
        offer = (await backend.offers())[0]
        machines = [await backend.provision(world.order(offer)) for _ in range(2)]
        await backend.terminate(machines[0].id)
    made = await anyio.to_thread.run_sync(machines_of, tmp_path)

    assert {one.token.hex() for one in machines} == {one.token for one in made}
    assert {machines[1].id} == {one.id for one in made if one.ended_ms is None}
