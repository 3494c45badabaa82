"""The door for agents in Python: a requester, opened from the file that ``compute-bridge request`` reads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from compute_bridge.cli.context import make_command_context
from compute_bridge.cli.requester_setup import DEFAULT_CONFIG, Setup
from compute_bridge.host.requester import NoLeaseError as NoLeaseError
from compute_bridge.host.requester import Requester as Requester
from compute_bridge.host.requester_state import Access as Access
from compute_bridge.host.requester_state import RequestHandle as RequestHandle


@asynccontextmanager
async def open_requester(path: Path | str = DEFAULT_CONFIG) -> AsyncIterator[Requester]:
    """Open the requester of the ``requester.toml`` at ``path``; its network is closed when the block ends.

    :raises BootFileError: naming every fault of the file, or what it names that cannot be read.
    """
    setup = await anyio.to_thread.run_sync(Setup.read, make_command_context(()), Path(path))
    account = await anyio.to_thread.run_sync(setup.account)
    async with setup.requester(setup.store, account) as requester:
        yield requester
