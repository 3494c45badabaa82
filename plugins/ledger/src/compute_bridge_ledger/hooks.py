"""What this plugin registers: the settlement ``ledger``."""

from compute_bridge.api import SettlementKind, hookimpl
from compute_bridge_ledger.ledger import LedgerConfig, open_ledger

COMPUTE_BRIDGE_API = 1


@hookimpl
def register_settlements() -> list[SettlementKind]:
    """Return the one kind."""
    return [SettlementKind("ledger", LedgerConfig, open_ledger)]
