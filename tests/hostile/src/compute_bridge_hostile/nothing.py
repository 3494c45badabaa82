"""Its hook returns nothing."""

from compute_bridge.api import hookimpl

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_backends() -> None:
    return None
