"""Its hook takes an argument that no hook has."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backends(clock: object) -> list[BackendKind]:
    return [kind("hostile-timeless")]
