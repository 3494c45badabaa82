"""The roster: the admitted cards, and whom their providers' epochs let speak."""

import logging
import sqlite3

from attrs import define, field, frozen

from compute_bridge.model import channels
from compute_bridge.model.card import EpochClaim, ProviderCard, RosterEntry
from compute_bridge.model.ids import Fingerprint, ProviderId, PublicKey, provider_id
from compute_bridge.model.usage import ComputeLog
from compute_bridge.ports.errors import MarketError, RecordError
from compute_bridge.wire.signing import Signed, open_self_signed
from compute_bridge_market.book import Book
from compute_bridge_market.publishing import Publisher

logger = logging.getLogger(__name__)


@frozen
class Admitted:
    """A card in the roster and its hash."""

    card: ProviderCard
    hash: Fingerprint


@define
class Roster:
    """The current card of every provider, and the highest epoch that each has claimed."""

    publisher: Publisher
    book: Book
    current: dict[ProviderId, Admitted] = field(factory=dict, init=False)
    _keys: dict[tuple[ProviderId, int], PublicKey] = field(factory=dict, init=False)
    _claims: dict[ProviderId, EpochClaim] = field(factory=dict, init=False)
    _seen: dict[ProviderId, bytes] = field(factory=dict, init=False)

    async def load(self) -> None:
        """Take in the cards and boot keys that the book knows and this process does not yet."""
        cards, keys = await self.book.run(lambda db: (current_cards(db), signing_keys(db)))
        self._keys.update(keys)
        for card_hash in set(cards) - {one.hash for one in self.current.values()}:
            self.note(await self.card(card_hash))

    async def card(self, card_hash: Fingerprint) -> Admitted:
        """Return an admitted card by its hash.

        :raises MarketError: if the network does not hold it.
        """
        known = next((one for one in self.current.values() if one.hash == card_hash), None)
        if known is not None:
            return known
        entry = await self.publisher.find(channels.CARDS, card_hash, RosterEntry)
        if entry is None:
            raise MarketError(f"stream {channels.CARDS} has lost card {card_hash.hex()}; restore the network's data")
        return Admitted(self.open_card(entry.value.card).value, entry.value.card_hash)

    def open_card(self, raw: bytes) -> Signed[ProviderCard]:
        """Return the card in ``raw``, signed by the boot key that it names."""
        domain = self.publisher.module.domain
        return open_self_signed(raw, ProviderCard, domain, signer=lambda card: card.binding.keys.signing)

    def note(self, admitted: Admitted) -> None:
        """Take a card in unless its provider has a later one."""
        card = admitted.card
        self._keys[card.provider_id, card.epoch] = card.binding.keys.signing
        known = self.current.get(card.provider_id)
        if known is None or (known.card.epoch, known.card.version) < (card.epoch, card.version):
            self.current[card.provider_id] = admitted

    # --- epochs -------------------------------------------------------------------------------

    async def read_claims(self) -> None:
        """Take in the epochs claimed since; what does not verify changes nothing."""
        for versioned in await self.publisher.network.entries(channels.EPOCHS):
            provider = ProviderId(versioned.key)
            if self._seen.get(provider) != versioned.value:
                self._seen[provider] = versioned.value
                self._take_claim(provider, versioned.value)

    async def read_claim(self, provider: ProviderId) -> EpochClaim | None:
        """Return the provider's latest claim, just read."""
        versioned = await self.publisher.network.get(channels.EPOCHS, provider)
        if versioned is not None:
            self._take_claim(provider, versioned.value)
        return self._claims.get(provider)

    def claim(self, provider: ProviderId) -> EpochClaim | None:
        """Return the highest claim read of a provider."""
        return self._claims.get(provider)

    def log_key(self, log: ComputeLog) -> PublicKey:
        """Return the boot key that must have signed a log: that of its provider's epoch.

        :raises RecordError: if no card was admitted in that epoch and it is not the one claimed now.
        """
        known = self._keys.get((log.provider_id, log.epoch))
        claim = self._claims.get(log.provider_id)
        if known is None and claim is not None and claim.epoch == log.epoch:
            known = claim.signing_key
        if known is None:
            raise RecordError(f"log of provider {log.provider_id.hex()[:12]}: no key of epoch {log.epoch} is known")
        return known

    def _take_claim(self, provider: ProviderId, raw: bytes) -> None:
        domain = self.publisher.module.domain
        try:
            claim = open_self_signed(raw, EpochClaim, domain, signer=lambda claim: claim.root_key).value
        except RecordError as error:
            logger.warning("epoch claim under %s is none: %s", provider.hex()[:12], error)
            return
        if {provider, claim.provider_id} != {provider_id(domain.coalition, claim.root_key)}:
            logger.warning("epoch claim under %s is by another provider's root key", provider.hex()[:12])
            return
        known = self._claims.get(provider)
        if known is None or known.epoch < claim.epoch:
            self._claims[provider] = claim


# --- the book's rows ------------------------------------------------------------------------------


def book_card(db: sqlite3.Connection, card: ProviderCard, card_hash: Fingerprint) -> None:
    """Remember a card as its provider's latest of its epoch, and the key of that epoch."""
    db.execute(
        "INSERT INTO card (provider, epoch, version, hash, signing_key) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (provider, epoch) DO UPDATE SET version = excluded.version, hash = excluded.hash"
        " WHERE excluded.version > version",
        (card.provider_id, card.epoch, card.version, card_hash, card.binding.keys.signing),
    )


def current_cards(db: sqlite3.Connection) -> list[Fingerprint]:
    """Return the hash of every provider's card of its latest epoch."""
    rows = db.execute("SELECT hash, max(epoch) FROM card GROUP BY provider ORDER BY provider")
    return [Fingerprint(row[0]) for row in rows]


def signing_keys(db: sqlite3.Connection) -> dict[tuple[ProviderId, int], PublicKey]:
    """Return the boot key of every provider and epoch that had a card admitted."""
    rows = db.execute("SELECT provider, epoch, signing_key FROM card")
    return {(ProviderId(provider), int(epoch)): PublicKey(key) for provider, epoch, key in rows}
