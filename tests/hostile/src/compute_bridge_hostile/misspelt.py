"""Its hook is misspelt."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backend() -> list[BackendKind]:
    return [kind("hostile-misspelt")]
