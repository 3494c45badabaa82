"""The door to the host: one kind of backend, ``aws``; imports no SDK."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module

from anyio import to_thread

from compute_bridge.api import Backend, BackendContext, BackendKind, hookimpl
from compute_bridge_aws.config import AwsConfig

COMPUTE_BRIDGE_API = 1


@asynccontextmanager
async def open_account(context: BackendContext, config: AwsConfig) -> AsyncGenerator[Backend]:
    """Open the account of ``config``; nothing is asked of AWS yet."""
    # boto3 takes a second to import, so not on the event loop.
    backend = await to_thread.run_sync(import_module, "compute_bridge_aws.backend")
    async with backend.open_backend(context, config) as opened:
        yield opened


@hookimpl
def register_backends() -> list[BackendKind]:
    """Return the one kind."""
    return [BackendKind("aws", AwsConfig, open_account)]
