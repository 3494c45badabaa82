"""Its hook is asynchronous."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind

COMPUTE_BRIDGE_API = 1


@hookimpl
async def register_backends() -> list[BackendKind]:
    return [kind("hostile-asynchronous")]
