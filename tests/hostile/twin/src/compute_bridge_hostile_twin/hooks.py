"""It registers a name that another distribution registers too."""

from contextlib import AbstractAsyncContextManager

from attrs import frozen

from compute_bridge.api import Backend, BackendContext, BackendKind, hookimpl

COMPUTE_BRIDGE_API = 1


@frozen
class NoConfig:
    """A table without keys."""


def _open(context: BackendContext, config: NoConfig) -> AbstractAsyncContextManager[Backend]:
    raise AssertionError(f"the kind of a hostile plugin was opened as {context.name}")


@hookimpl
def register_backends() -> list[BackendKind]:
    return [BackendKind("hostile-twin", NoConfig, _open)]
