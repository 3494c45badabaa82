"""The door to the host: one kind of backend, ``gcp``; imports no SDK."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module

from anyio import to_thread

from compute_bridge.api import Backend, BackendContext, BackendKind, hookimpl
from compute_bridge_gcp.config import GcpConfig

COMPUTE_BRIDGE_API = 1


@asynccontextmanager
async def open_project(context: BackendContext, config: GcpConfig) -> AsyncGenerator[Backend]:
    """Open the project of ``config``; nothing is asked of the vendor yet."""
    # The SDK takes seconds to import, so not on the event loop.
    backend = await to_thread.run_sync(import_module, "compute_bridge_gcp.backend")
    yield await to_thread.run_sync(backend.open_backend, context, config)


@hookimpl
def register_backends() -> list[BackendKind]:
    """Return the one kind."""
    return [BackendKind("gcp", GcpConfig, open_project)]
