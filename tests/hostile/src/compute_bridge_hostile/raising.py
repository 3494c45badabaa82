"""Its hook raises."""

from compute_bridge.api import BackendKind, hookimpl

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backends() -> list[BackendKind]:
    raise KeyError("HOSTILE_API_KEY")
