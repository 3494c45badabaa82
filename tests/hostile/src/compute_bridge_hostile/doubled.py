"""It registers one name twice."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backends() -> list[BackendKind]:
    return [kind("hostile-doubled"), kind("hostile-doubled")]
