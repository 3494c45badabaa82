"""A requester: asks, verifies who won, seals its envelope to the winner, and opens the receipt."""

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial

import anyio
from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.host.card_checks import QuoteTrust, UntrustedError
from compute_bridge.host.envelopes import seal_envelope
from compute_bridge.host.log_checks import await_abandoned, await_log
from compute_bridge.host.market import Market
from compute_bridge.host.race import beside, race
from compute_bridge.host.requester_checks import check_not_over, check_receipt
from compute_bridge.host.requester_control import send_control
from compute_bridge.host.requester_ssh import ssh_command
from compute_bridge.host.requester_state import (
    Access,
    KeptRequest,
    NotYetError,
    RequestHandle,
    SeenReceipt,
    accepted,
    load_request,
    open_reply,
)
from compute_bridge.host.requester_status import GRACE_TICKS, RequestStatus, bids_of, latest_grant, look_up
from compute_bridge.host.requester_submit import RequestTerms, Submitter
from compute_bridge.host.winner import verify_winner
from compute_bridge.model.coalition import Handshake
from compute_bridge.model.control import ControlAction, ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import short
from compute_bridge.model.manifest import ComputeManifest
from compute_bridge.model.quote import QuotePolicy
from compute_bridge.model.reason import Reason
from compute_bridge.model.receipt import SshAccessReceipt
from compute_bridge.model.request import Preferences
from compute_bridge.model.resources import Region
from compute_bridge.model.units import MicrosPerHour, Milliseconds, Tick, UtcMs
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.attestation import QuoteVerifier
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import MarketError, ReceiptError
from compute_bridge.ports.network import Network
from compute_bridge.ports.requester_store import RequesterStore
from compute_bridge.ports.shuffle import Shuffle
from compute_bridge.wire.signing import Signed

logger = logging.getLogger(__name__)

LATE_RECEIPT_MS = 10_000
MAX_TOLD = 8
"""How many bids a message tells of."""


class NoLeaseError(MarketError):
    """A request brought no machine; ask again if you still want one. ``reason`` is the stable code."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@define(kw_only=True)
class Requester:
    """A requester in one coalition, for agents and for ``compute-bridge request``.

    Secrets are in the store before anything that depends on them is sent, so every call may be made again
    after a crash, by another process. Nothing is sealed to a bridge, and no address is handed out, before
    everything about it has been verified; a check that fails raises. ``policy`` decides in words whether
    a development attester is acceptable. Every wait is without a deadline: put a scope around it.
    """

    network: Network
    shuffle: Shuffle
    handshake: Handshake
    verifier: QuoteVerifier
    policy: QuotePolicy
    account: Ed25519PrivateKey = field(repr=False)
    store: RequesterStore
    clock: Clock
    draw: Callable[[int], bytes] = field(default=secrets.token_bytes, repr=False)
    market: Market = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.market = Market(self.network, self.handshake)

    # --- asking ---------------------------------------------------------------------------------

    async def submit(
        self,
        manifest: ComputeManifest,
        max_rate: MicrosPerHour,
        ssh_public_key: str | None = None,
        *,
        identity: str = "",
        preferred_regions: tuple[Region, ...] = (),
        open_ms: Milliseconds = Milliseconds(60_000),
    ) -> RequestHandle:
        """Ask the market for a machine and return when it has admitted the request.

        ``max_rate`` is in micros per hour for the whole machine. Without ``ssh_public_key`` the bridge
        makes the key, knows it, and the receipt says so. ``identity`` is the path of the private half.

        :raises AdmissionError: if the market refuses the request; its ``reason`` says why.
        """
        terms = RequestTerms(
            manifest=manifest,
            max_rate=max_rate,
            ssh_key=(ssh_public_key or "").strip(),
            identity=identity,
            preferences=Preferences(preferred_regions),
            open_ms=open_ms,
        )
        kept = await beside(partial(self._submitter.keep, terms), self.market.follow_almanac)
        await self._submitter.admit(kept)
        return kept.handle

    async def serve_until_receipt(self, handle: RequestHandle) -> Access:
        """Stay online until the machine is there: verify each winner, seal to it, open its receipt.

        A grant that its provider refuses or fails is followed by the next one, if the market clears the
        request again. Called again, also after a crash, it goes on where it stood.

        :raises NoLeaseError: if the market cleared it to nobody, or it ended without a machine.
        :raises UntrustedError: if the grant, its clearing record or its card does not hold.
        :raises AttestationError: if the card's quote does not prove what the policy demands.
        :raises ReceiptError: if the winner's receipt is not for what was granted.
        """
        kept = await self._load(handle)
        return await beside(partial(self._serve, kept), self.market.follow_almanac)

    # --- using ----------------------------------------------------------------------------------

    async def access(self, handle: RequestHandle) -> Access:
        """Return the way into the machine as it was accepted; reads the store alone.

        :raises NotYetError: if no receipt has been accepted yet.
        """
        return self._accepted(await self._load(handle))

    async def ssh_command(self, handle: RequestHandle, command: Sequence[str] = ()) -> list[str]:
        """Return the argument vector for the user's own ``ssh``, with the receipt's host key pinned.

        Writes the known-hosts line, and a bridge-made key, into the store.
        """
        kept = await self._load(handle)
        return await ssh_command(kept, self._accepted(kept), command)

    async def control(
        self, handle: RequestHandle, action: ControlAction, *, extend_ms: Milliseconds = Milliseconds(0), note: str = ""
    ) -> ControlVerdict:
        """Release, extend, dispute or comment the lease, and return the module's answer.

        :raises AdmissionError: if the module does not apply it; its ``reason`` says why.
        :raises NotYetError: if there is no grant to speak of.
        """
        kept = await self._load(handle)
        return await send_control(
            self.market, kept, self._granted(kept), action=action, extend_ms=extend_ms, note=note, clock=self.clock
        )

    async def status(self, handle: RequestHandle) -> RequestStatus:
        """Return where the request stands, and how each provider's bid for it fared."""
        return await look_up(self.market, await self._load(handle))

    # --- from grant to receipt --------------------------------------------------------------------

    async def _serve(self, kept: KeptRequest) -> Access:
        await self._submitter.admit(kept)
        if kept.progress.receipt:
            return self._accepted(kept)
        grant = kept.grant(self.market.config.signing_key) or await self._next_grant(kept)
        while True:
            await self._deliver(kept, grant)
            access = await race(partial(self._receive, kept, grant), partial(self._give_up, grant))
            if access is not None:
                return access
            grant = await self._next_grant(kept)

    async def _next_grant(self, kept: KeptRequest) -> Signed[ComputeGrant]:
        return await race(partial(self._await_grant, kept), partial(self._expire, kept))

    async def _await_grant(self, kept: KeptRequest) -> Signed[ComputeGrant]:
        async with aclosing(self.market.grants(kept.secrets.grants_after)) as grants:
            async for _, grant in grants:
                if self._is_next(kept, grant.value):
                    return grant
        raise RuntimeError("a network's follow has ended")

    async def _expire(self, kept: KeptRequest) -> Signed[ComputeGrant]:
        await self.market.after(Tick(kept.signed.value.expires_at + GRACE_TICKS))
        latest = await latest_grant(self.market, kept.id)
        if latest is not None and self._is_next(kept, latest.value):
            return latest
        bids = await bids_of(self.market, kept.id, after=kept.secrets.clearing_verdicts_after)
        fared = ", ".join(f"provider {short(bid.provider_id)} {bid.reason}" for bid in bids[:MAX_TOLD])
        raise NoLeaseError(
            f"request {short(kept.id)} was open until tick {kept.signed.value.expires_at} and nobody took it "
            f"({fared or 'nobody was there to bid'}); ask for what is sold, or pay more, or stay open for longer",
            reason=Reason.REQUEST_EXPIRED,
        )

    def _is_next(self, kept: KeptRequest, grant: ComputeGrant) -> bool:
        last = kept.grant(self.market.config.signing_key)
        return grant.request_id == kept.id and (last is None or grant.round > last.value.round)

    async def _deliver(self, kept: KeptRequest, grant: Signed[ComputeGrant]) -> None:
        if kept.progress.grant != grant.raw:
            if (now := await self.market.tick()).value.tick > grant.value.valid_to:
                raise UntrustedError(
                    f"grant {short(grant.value.id)} could be accepted until tick {grant.value.valid_to}, "
                    f"now is {now.value.tick}",
                    reason=Reason.GRANT_EXPIRED,
                )
            winner = await verify_winner(self.market, grant, kept, self._trust)
            envelope = seal_envelope(kept.body, grant, winner.sealing)
            await kept.advance(evolve(kept.progress, grant=grant.raw, winner=winner, envelope=envelope, receipt=b""))
        await self.shuffle.post(grant.value.bearer_pointer, kept.progress.envelope)

    async def _receive(self, kept: KeptRequest, grant: Signed[ComputeGrant]) -> Access | None:
        async with aclosing(self.shuffle.collect(grant.value.bearer_pointer)) as replies:
            async for sealed in replies:
                try:
                    receipt = open_reply(kept, grant, sealed)
                except ReceiptError as error:
                    # Anybody may reply under a pointer; what does not open is not the winner's word.
                    logger.warning("dropped a reply: %s", error)
                    continue
                return await self._accept(kept, grant, sealed, receipt)
        raise RuntimeError("a shuffle's collect has ended")

    async def _accept(
        self, kept: KeptRequest, grant: Signed[ComputeGrant], sealed: bytes, receipt: Signed[SshAccessReceipt]
    ) -> Access:
        assert kept.progress.winner is not None  # noqa: S101 - the envelope was sealed to it
        seen = SeenReceipt(grant.value.id, receipt.value.sequence, receipt.hash)
        _check_unseen(seen, kept.progress.seen)
        check_receipt(receipt.value, grant.value, kept.body.value, kept.progress.winner)
        check_not_over(receipt.value, UtcMs(self.clock.utc_ms()))
        await kept.advance(evolve(kept.progress, receipt=sealed, seen=(*kept.progress.seen, seen)))
        return Access(kept.handle, grant, receipt, kept.progress.winner)

    async def _give_up(self, grant: Signed[ComputeGrant]) -> None:
        """Return when the grant is void: its provider gave it up, or the module gave the provider up."""
        await race(partial(self._refused, grant.value), partial(await_abandoned, self.market, grant.value))

    async def _refused(self, grant: ComputeGrant) -> None:
        try:
            log = (await await_log(self.market, grant)).value
        except UntrustedError as error:
            logger.warning("passed over: %s", error)
            await anyio.sleep_forever()
        if log.outcome is Outcome.SERVED:
            await self.clock.sleep_ms(LATE_RECEIPT_MS)
        elif log.reason != Reason.ENVELOPE_ABSENT:
            logger.info("grant %s: %s, %s", short(grant.id), log.outcome, log.reason)
            return
        raise NoLeaseError(
            f"grant {short(grant.id)} ended {log.outcome} ({log.reason}) without a receipt for us", reason=log.reason
        )

    # --- parts ------------------------------------------------------------------------------------

    def _accepted(self, kept: KeptRequest) -> Access:
        return accepted(kept, self.market.config.signing_key)

    def _granted(self, kept: KeptRequest) -> Signed[ComputeGrant]:
        grant = kept.grant(self.market.config.signing_key)
        if grant is None:
            raise NotYetError(f"request {short(kept.id)} has no grant yet; 'request receipt' waits for it")
        return grant

    async def _load(self, handle: RequestHandle) -> KeptRequest:
        return await load_request(self.store, self.market.domain, handle)

    @property
    def _trust(self) -> QuoteTrust:
        return QuoteTrust(self.verifier, self.policy, self.clock)

    @property
    def _submitter(self) -> Submitter:
        return Submitter(self.market, self.account, self.store, self.clock, self.draw)


def _check_unseen(receipt: SeenReceipt, seen: tuple[SeenReceipt, ...]) -> None:
    for one in seen:
        if (one.grant_id, one.sequence) == (receipt.grant_id, receipt.sequence) and one.hash != receipt.hash:
            raise ReceiptError(
                f"receipt for grant {short(receipt.grant_id)}: number {receipt.sequence} came before with other "
                "contents; do not connect"
            )
