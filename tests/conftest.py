"""What every test of the host stands on."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"
