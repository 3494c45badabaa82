"""Its hook is no hook: nobody marked it as one."""

from compute_bridge.api import BackendKind

from .kinds import kind

COMPUTE_BRIDGE_API = 1


def register_backends() -> list[BackendKind]:
    return [kind("hostile-undecorated")]
