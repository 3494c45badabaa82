"""It is written for an API that is not there yet."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind

COMPUTE_BRIDGE_API = 2


@hookimpl
def register_backends() -> list[BackendKind]:
    return [kind("hostile-future")]
