"""It does not say which API it is written for."""

from compute_bridge.api import BackendKind, hookimpl

from .kinds import kind


@hookimpl
def register_backends() -> list[BackendKind]:
    return [kind("hostile-forgetful")]
