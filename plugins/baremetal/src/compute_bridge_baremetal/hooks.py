"""The door to the host: one kind of backend, ``baremetal``; imports no SDK."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module

from anyio import to_thread

from compute_bridge.api import Backend, BackendContext, BackendKind, hookimpl
from compute_bridge_baremetal.config import BaremetalConfig

COMPUTE_BRIDGE_API = 1


@asynccontextmanager
async def open_rack(context: BackendContext, config: BaremetalConfig) -> AsyncGenerator[Backend]:
    """Open the rack of ``config``; its machines are dialled when they are first asked."""
    # asyncssh takes most of a second to import, so not on the event loop.
    backend = await to_thread.run_sync(import_module, "compute_bridge_baremetal.backend")
    async with backend.open_backend(context, config) as opened:
        yield opened


@hookimpl
def register_backends() -> list[BackendKind]:
    """Return the one kind."""
    return [BackendKind("baremetal", BaremetalConfig, open_rack)]
