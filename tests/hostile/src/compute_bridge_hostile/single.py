"""Its hook returns one kind instead of a list."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backends() -> BackendKind:
    return kind("hostile-single")
