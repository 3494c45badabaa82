"""The backends of a boot file, opened by themselves: no network, no journal, no identity."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import click
from attrs import field, frozen

from compute_bridge.adapters.boot_file import LoadedBoot, read_named_secret
from compute_bridge.cli.config import open_kinds
from compute_bridge.cli.options import Decorator
from compute_bridge.host.plugin_call import BackendFaultError, backend_call
from compute_bridge.host.plugins import Plugins
from compute_bridge.model.boot import BackendSettings
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports.backend import Backend, BackendContext
from compute_bridge.ports.clock import Clock

backend_option: Decorator = click.option(
    "--backend", "names", multiple=True, metavar="NAME", help="Only this backend; may be given again."
)


@frozen
class Backends:
    """The tables of the backends that were chosen, and how each is opened."""

    tables: tuple[BackendSettings, ...]
    _loaded: LoadedBoot
    _configs: Mapping[str, Any] = field(repr=False)
    _plugins: Plugins
    _clock: Clock

    @asynccontextmanager
    async def open(self, table: BackendSettings) -> AsyncIterator[Backend]:
        """Open one backend until the context ends.

        :raises ComputeBridgeError: if it does not open.
        """
        async with AsyncExitStack() as stack:
            yield await self._entered(table, stack)

    async def _entered(self, table: BackendSettings, stack: AsyncExitStack) -> Backend:
        config = self._configs[f"backend[{self._loaded.boot.backends.index(table)}]"]
        read_secret = partial(read_named_secret, self._loaded, self._configs)
        context = BackendContext(table.name, self._clock, read_secret)
        try:
            with backend_call(table.name, "opening it"):
                kind = self._plugins.kind("backends", table.kind)
                backend: Backend = await stack.enter_async_context(kind.open(context, config))
                return backend
        except BackendFaultError as fault:
            # An error of ours says more: a secret that cannot be read, a table that cannot be right.
            if isinstance(fault.__cause__, ComputeBridgeError):
                raise fault.__cause__ from None
            raise


def choose(loaded: LoadedBoot, names: Sequence[str]) -> tuple[BackendSettings, ...]:
    """Return the tables of these backends, or of all, in the order of the file.

    :raises click.UsageError: if the file has no backend of such a name.
    """
    known = [table.name for table in loaded.boot.backends]
    for name in names:
        if name not in known:
            raise click.UsageError(f"--backend {name}: {loaded.path.name} names {', '.join(known)}")
    return tuple(table for table in loaded.boot.backends if not names or table.name in names)


def find_backends(loaded: LoadedBoot, names: Sequence[str], clock: Clock) -> Backends:
    """Return the chosen backends with the plugins that open them; opens none yet.

    :raises PluginError: if a plugin is missing or broken.
    :raises BootFileError: if a kind's table is wrong.
    """
    tables = choose(loaded, names)
    configs, plugins = open_kinds(loaded)
    return Backends(tables, loaded, configs, plugins, clock)
