"""The receipt of a lease: sealed once, kept before it is sent, replied byte for byte until it is taken."""

import logging

from attrs import define, field

from compute_bridge.host.identity import BootSecrets
from compute_bridge.host.lease_book import LeaseBook
from compute_bridge.host.lease_state import Delivered, LeaseState, ProvisionIntended, Running
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.host.orders import bridge_made_key, offer_of
from compute_bridge.host.receipts import make_receipt
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import short
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.ports.errors import MarketError, NetworkError
from compute_bridge.ports.journal import JournalUnwritableError
from compute_bridge.wire.signing import Signed

logger = logging.getLogger(__name__)

DELIVER_AGAIN_MS = 2_000


@define
class Delivery:
    """The way of one lease's receipt to its requester."""

    tools: LeaseTools
    grant: Signed[ComputeGrant]
    secrets: BootSecrets = field(repr=False)
    book: LeaseBook

    async def deliver(self, body: EnvelopeBody, running: Running) -> None:
        """Reply the receipt, trying until it is taken; the same bytes each time."""
        while True:
            try:
                sealed = await self._sealed(body, running)
                return await self.tools.shuffle.reply(self.grant.value.bearer_pointer, sealed)
            except (NetworkError, MarketError, JournalUnwritableError) as error:
                logger.warning("lease %s: its receipt is not out yet: %s", short(self.book.id), error)
            await self.tools.clock.sleep_ms(DELIVER_AGAIN_MS)

    async def _sealed(self, body: EnvelopeBody, running: Running) -> bytes:
        kept = self.book.facts.sequence_of(Delivered)
        sealed = await self.book.journal.blob(kept) if kept else None
        return sealed or await self._make(body, running)

    async def _make(self, body: EnvelopeBody, running: Running) -> bytes:
        intended = self.book.facts.require(ProvisionIntended)
        private = "" if body.ssh_key else bridge_made_key(self.tools.identity, intended.token)
        _, card = await self.tools.market.card(self.grant.value.card_hash)
        receipt = make_receipt(
            self.grant,
            running.instance,
            offer_of(intended.offer),
            card=card.value,
            secrets=self.secrets,
            recipient=body.sealing_key,
            private_key=private,
            domain=self.tools.identity.domain,
        )
        await self.book.record(
            Delivered(receipt.hash, receipt.sequence, self.grant.value.bearer_pointer),
            state=LeaseState.DELIVERED,
            blob=receipt.sealed,
        )
        return receipt.sealed
