"""What looks like ours and belongs to no open lease, judged one by one."""

from typing import TypeAlias

from attrs import evolve, frozen

from compute_bridge.host.grant_standing import GrantStandings, Standing
from compute_bridge.host.identity import Identity
from compute_bridge.host.listing import Listing, Shown
from compute_bridge.host.orders import is_ours
from compute_bridge.model.ids import BackendName, Fingerprint, GrantId, InstanceId, Token
from compute_bridge.model.reason import Reason
from compute_bridge.wire.keys import instance_name

Key: TypeAlias = tuple[BackendName, InstanceId, Token]
"""What a machine is known by from one listing to the next."""


@frozen
class Stray:
    """A machine that looks like ours and belongs to no open lease, or what stands of one.

    ``age_ms`` is for how long we have seen it so, ``reason`` what becomes of it and ``detail`` why.
    """

    backend: BackendName
    machine: Shown
    age_ms: int
    reason: Reason
    detail: str = ""
    grant: GrantId | None = None
    lease: bytes = b""

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.backend, self.machine.id, self.machine.token

    def judged(self, reason: Reason, detail: str) -> "Stray":
        """Return it with another judgement."""
        return evolve(self, reason=reason, detail=detail[:500])


_STANDING_REASONS = {
    Standing.OPEN: Reason.NOT_REAPED_GRANT_OPEN,
    Standing.SILENT: Reason.NOT_REAPED_MARKET_SILENT,
    Standing.CLOSED: Reason.REAPABLE,
}


@frozen
class StrayRule:
    """The rule: a right mac, seen for longer than the window, and a market that does not show its grant open."""

    identity: Identity
    standings: GrantStandings
    intent_window_ms: int

    async def judge(self, listing: Listing, machine: Shown, age_ms: int) -> Stray:
        """Return what the rule makes of a machine that no open lease names.

        :raises JournalError: if the journal cannot be read.
        """
        stray = Stray(listing.backend, machine, age_ms, Reason.NOT_REAPED_MAC)
        # The mac binds the name and not the token; a copied one stands under another token's name.
        if machine.ownership.name != instance_name(machine.token) or not is_ours(self.identity, machine.ownership):
            return stray.judged(Reason.NOT_REAPED_MAC, "its tags do not prove that this identity made it")
        window_ms = max(self.intent_window_ms, listing.window_ms)
        if age_ms <= window_ms:
            return stray.judged(Reason.NOT_REAPED_YOUNG, f"seen for {age_ms} ms, which is not beyond {window_ms} ms")
        found = await self.standings.of(Fingerprint(machine.ownership.grant_hash))
        stray = evolve(stray, grant=found.grant, lease=found.lease)
        return stray.judged(_STANDING_REASONS[found.standing], found.detail)
