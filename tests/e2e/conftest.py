"""A whole coalition in one process, of real parts: the market plugin, bridges, requesters, one clock.

Time runs a hundred times faster than on the wall, so an hour's lease takes 36 seconds and a tick 20 ms.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit.coalition import Coalition, found


@pytest.fixture
def open_coalition(tmp_path: Path):
    """What runs a market, and makes bridges and requesters for it, while its context is open."""
    return lambda: _run_coalition(tmp_path)


@asynccontextmanager
async def _run_coalition(folder: Path) -> AsyncIterator[Coalition]:
    coalition = await found(folder, MemoryCloud(), made=Coalition)
    async with coalition.market():
        yield coalition
