"""The hooks: each called once, at boot, synchronously and without I/O, and each returns kinds."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pluggy
from attrs import field, frozen

from compute_bridge.model.checks import label
from compute_bridge.ports.attestation import QuoteSource
from compute_bridge.ports.backend import BackendKind
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.network import Network
from compute_bridge.ports.shuffle import Shuffle
from compute_bridge.ports.strategy import (
    ClearingRuleKind,
    RatePolicyKind,
    ReputationPolicyKind,
    RoutingPolicyKind,
    SettlementKind,
)

PROJECT = "compute_bridge"
PLUGIN_API = 1
"""The plugin contract's version; a plugin's ``COMPUTE_BRIDGE_API`` must equal it."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@frozen
class OpenContext:
    """What the host hands to a network, shuffle or quote source as it opens."""

    clock: Clock
    read_secret: Callable[[str], bytes] = field(repr=False)
    base_dir: Path
    """The folder of the file that named it; relative paths in its table are from here."""


@frozen
class NetworkKind:
    """A network by the boot file's word, the class of its table, and how one is opened."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[OpenContext, Any], AbstractAsyncContextManager[Network]]


@frozen
class ShuffleKind:
    """A shuffle by its word, the class of its table, and how one is opened over a network."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[OpenContext, Any, Network], AbstractAsyncContextManager[Shuffle]]


@frozen
class QuoteSourceKind:
    """A quote source by its word, the class of its table, and how one is opened."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[OpenContext, Any], AbstractAsyncContextManager[QuoteSource]]


@hookspec
def register_backends() -> list[BackendKind]:  # type: ignore[empty-body]
    """Return the kinds of backend; every ``[[backend]]`` table names one by ``kind``."""


@hookspec
def register_rate_policies() -> list[RatePolicyKind]:  # type: ignore[empty-body]
    """Return the rate policies; chosen by ``[rate] policy``."""


@hookspec
def register_reputation_policies() -> list[ReputationPolicyKind]:  # type: ignore[empty-body]
    """Return the reputation policies."""


@hookspec
def register_settlements() -> list[SettlementKind]:  # type: ignore[empty-body]
    """Return the kinds of settlement; chosen by ``[settlement] kind``."""


@hookspec
def register_routing_policies() -> list[RoutingPolicyKind]:  # type: ignore[empty-body]
    """Return the routing policies; chosen by ``[routing] policy``."""


@hookspec
def register_networks() -> list[NetworkKind]:  # type: ignore[empty-body]
    """Return the kinds of network; chosen by ``[network] kind``."""


@hookspec
def register_shuffles() -> list[ShuffleKind]:  # type: ignore[empty-body]
    """Return the kinds of shuffle; chosen by ``[shuffle] kind``."""


@hookspec
def register_quote_sources() -> list[QuoteSourceKind]:  # type: ignore[empty-body]
    """Return the quote sources; chosen by ``[attestation] source``."""


@hookspec
def register_clearing_rules() -> list[ClearingRuleKind]:  # type: ignore[empty-body]
    """Return the clearing rules; chosen by ``[clearing] rule`` of the market's file."""
