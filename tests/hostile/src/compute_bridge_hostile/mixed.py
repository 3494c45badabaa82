"""Its hook returns a list of things that are no kinds."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backends() -> list[BackendKind | str]:
    return [kind("hostile-mixed"), "hostile-mixed"]
