"""The door to the host: one kind of backend, ``azure``; imports no SDK."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module

from anyio import to_thread

from compute_bridge.api import Backend, BackendContext, BackendKind, hookimpl
from compute_bridge_azure.config import AzureConfig

COMPUTE_BRIDGE_API = 1


@asynccontextmanager
async def open_azure(context: BackendContext, config: AzureConfig) -> AsyncGenerator[Backend]:
    """Open the subscription of ``config``; Azure is first asked when something is wanted of it."""
    # The SDK takes more than a second to import, so not on the event loop.
    backend = await to_thread.run_sync(import_module, "compute_bridge_azure.backend")
    async with backend.open_backend(context, config) as opened:
        yield opened


@hookimpl
def register_backends() -> list[BackendKind]:
    """Return the one kind."""
    return [BackendKind("azure", AzureConfig, open_azure)]
