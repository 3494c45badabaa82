"""What a demo ends with: who bid, who won, what ran, what was used, paid and verified, and why."""

from collections.abc import Iterator
from typing import Any

from attrs import asdict, frozen

from compute_bridge.model.reason import Reason
from compute_bridge.model.units import HOUR_MS
from compute_bridge.model.usage import UsageSource

PARTS = ("card", "quote", "clearing", "grant", "receipt", "log", "ledger", "books")
_UNITS = {
    "core_ms": "core-ms",
    "ram_mib_ms": "MiB-ms of RAM",
    "net_in_bytes": "bytes in",
    "net_out_bytes": "bytes out",
    "disk_gib_ms": "GiB-ms of disk",
    "gpu_ms": "GPU-ms",
    "wall_ms": "ms of wall time",
}


@frozen
class Bid:
    """One provider's bid, and what became of it."""

    provider: str
    bridge: str
    rate_micros: int
    reason: str


@frozen
class Login:
    """What the requester did with its machine. ``client`` is the program that logged in."""

    address: str
    host_key: str
    host_key_pinned: bool
    server: str
    client: str
    command: str
    exit_status: int
    stdout: str


@frozen(kw_only=True)
class Account:
    """One whole lease. Rates are in micros per hour, amounts in micros of ``currency``."""

    coalition: str
    request_id: str
    grant_id: str
    card_hash: str
    round: int
    winner: str
    winner_bridge: str
    bids: tuple[Bid, ...]
    asked: str
    max_rate_micros: int
    backend: str
    ssh: Login
    outcome: str
    reason: str
    usage: dict[str, dict[str, Any]]
    """Figures by name, each a value and its source."""
    rate_micros: int
    billable_ms: int
    charge_micros: int
    requester_fee_micros: int
    provider_fee_micros: int
    currency: str
    verified: dict[str, bool]
    faults: dict[str, str]
    development_attestation: bool

    @property
    def holds(self) -> bool:
        """Whether every part was verified."""
        return set(self.verified) == set(PARTS) and all(self.verified.values())

    def as_json(self) -> dict[str, Any]:
        """Return the one object that ``--json`` prints."""
        return asdict(self)

    def as_lines(self) -> Iterator[str]:
        """Yield the account for people."""
        yield ""
        yield "What happened, and why"
        yield from _block("asked", [f"{self.asked}, at most {self.money(self.max_rate_micros)} an hour"])
        yield from _block("bids", [self._bid(bid) for bid in self.bids])
        yield from _block("ran", self._ran())
        yield from _block("used", list(_used(self.usage)))
        yield from _block("paid", self._paid())
        yield from _block("verified", [self._verdict(part) for part in PARTS])
        if self.development_attestation:
            yield "  note      the quotes come from a development attester: they prove nothing about hardware"

    def money(self, micros: int) -> str:
        """Return an amount as people write it."""
        return f"{'-' if micros < 0 else ''}{abs(micros) // 10**6}.{abs(micros) % 10**6:06} {self.currency}"

    def _bid(self, bid: Bid) -> str:
        rate = f"{self.money(bid.rate_micros)} an hour" if bid.rate_micros else "no bid"
        why = f"won round {self.round}: the lowest rate" if bid.reason == Reason.WON else bid.reason
        return f"{bid.bridge:<13} {bid.provider[:12]}  {rate}  {why}"

    def _ran(self) -> list[str]:
        ssh = self.ssh
        return [
            f"on {self.winner_bridge}'s backend {self.backend}, at {ssh.address}, served by {ssh.server}",
            f"{ssh.client} held the server to the key in the sealed receipt, {ssh.host_key}",
            f"$ {ssh.command}",
            *(f"  {line}" for line in ssh.stdout.splitlines()),
            f"exit status {ssh.exit_status}",
        ]

    def _paid(self) -> list[str]:
        paid, owed = self.charge_micros + self.requester_fee_micros, self.charge_micros - self.provider_fee_micros
        return [
            f"{self.outcome} ({self.reason}), {self.billable_ms} ms billable",
            f"charge: ceil({self.rate_micros} x {self.billable_ms} / {HOUR_MS}) = {self.charge_micros} micros",
            f"the requester pays {self.money(paid)}, of which {self.requester_fee_micros} micros are the market's fee",
            f"{self.winner_bridge} is owed {self.money(owed)}, after a fee of {self.provider_fee_micros} micros",
        ]

    def _verdict(self, part: str) -> str:
        fault = self.faults.get(part, "")
        return f"{part:<9} {'yes' if self.verified.get(part) else 'NO'}{': ' if fault else ''}{fault}"


def _block(title: str, lines: list[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"  {title if index == 0 else '':<9} {line}"


def _used(usage: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, figure in usage.items():
        if figure["source"] != UsageSource.UNAVAILABLE:
            yield f"{figure['value']} {_UNITS[name]} ({figure['source']})"
