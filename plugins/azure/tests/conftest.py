"""What every test of this plugin stands on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_bridge_azure.testing.world import AzureWorld

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"


@pytest.fixture
def readme_table() -> str:
    """Return the boot file's table as the README shows it."""
    [table] = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    return str(table)


@pytest.fixture
def world() -> Iterator[AzureWorld]:
    """Run a subscription whose guests are real SSH servers."""
    with AzureWorld() as world:
        yield world
        assert world.arm.server.errors == []


@pytest.fixture
def bare() -> Iterator[AzureWorld]:
    """Run a subscription whose guests nobody dials."""
    with AzureWorld(guests=False) as world:
        yield world
        assert world.arm.server.errors == []
