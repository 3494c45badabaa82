"""The kinds in the box, registered through the same hooks as a stranger's; adapters are imported as they open."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from attrs import field, frozen

from compute_bridge.model.boot import about
from compute_bridge.model.checks import label, text
from compute_bridge.ports.attestation import QuoteSource
from compute_bridge.ports.hookspecs import (
    PLUGIN_API,
    NetworkKind,
    OpenContext,
    QuoteSourceKind,
    ShuffleKind,
    hookimpl,
)
from compute_bridge.ports.network import Network
from compute_bridge.ports.shuffle import Shuffle

COMPUTE_BRIDGE_API = PLUGIN_API


@frozen
class MemoryNetworkConfig:
    """``[network] kind = "memory"``: within one process, gone with it."""


@frozen
class SqliteNetworkConfig:
    """``[network] kind = "sqlite"``: several processes on one machine."""

    path: Path = field(metadata=about("the network's file, on a local disk; made when it is missing"))


@frozen
class DirectShuffleConfig:
    """``[shuffle] kind = "direct"``: over the network itself; hides nothing."""


@frozen
class SoftwareQuotesConfig:
    """``[attestation] source = "software"``: a development attester, which proves nothing about hardware."""

    directory: Path = field(metadata=about("folder of the attester's own root; processes that share it share the root"))
    root: str = field(default="development", validator=label, metadata=about("the root's name, which verifiers see"))
    measurements: str = field(
        default="default", validator=text(1, 64), metadata=about("label from which the made-up measurements follow")
    )


@asynccontextmanager
async def _open_memory(_context: OpenContext, _config: MemoryNetworkConfig) -> AsyncIterator[Network]:
    from compute_bridge.adapters.memory_network import MemoryNetwork

    yield MemoryNetwork()


def _open_sqlite(_context: OpenContext, config: SqliteNetworkConfig) -> AbstractAsyncContextManager[Network]:
    from compute_bridge.adapters.sqlite_network import open_sqlite_network

    return open_sqlite_network(config.path)


@asynccontextmanager
async def _open_direct(_context: OpenContext, _config: DirectShuffleConfig, network: Network) -> AsyncIterator[Shuffle]:
    from compute_bridge.adapters.direct_shuffle import DirectShuffle

    yield DirectShuffle(network)


@asynccontextmanager
async def _open_software(context: OpenContext, config: SoftwareQuotesConfig) -> AsyncIterator[QuoteSource]:
    from compute_bridge.adapters.software_quotes import (
        SoftwarePlatform,
        SoftwareQuoteSource,
        label_measurements,
        software_quote,
    )

    platform = SoftwarePlatform(quote=software_quote(label_measurements(config.measurements)))
    now_s = context.clock.utc_ms() // 1000
    yield SoftwareQuoteSource(config.directory, config.root, now_s=now_s, platform=platform)


@hookimpl
def register_networks() -> list[NetworkKind]:
    """Return the embedded networks."""
    return [
        NetworkKind("memory", MemoryNetworkConfig, _open_memory),
        NetworkKind("sqlite", SqliteNetworkConfig, _open_sqlite),
    ]


@hookimpl
def register_shuffles() -> list[ShuffleKind]:
    """Return the shuffle that hides nothing."""
    return [ShuffleKind("direct", DirectShuffleConfig, _open_direct)]


@hookimpl
def register_quote_sources() -> list[QuoteSourceKind]:
    """Return the development attester."""
    return [QuoteSourceKind("software", SoftwareQuotesConfig, _open_software)]
