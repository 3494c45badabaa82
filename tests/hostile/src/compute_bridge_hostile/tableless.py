"""Its kind has no table class."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import open_nothing

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backends() -> list[BackendKind]:
    return [BackendKind("hostile-tableless", dict, open_nothing)]
