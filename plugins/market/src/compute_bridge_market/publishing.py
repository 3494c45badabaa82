"""The market's records on the network: each signed, each appended once, whoever asks twice."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from attrs import frozen

from compute_bridge.ports.errors import RecordConflictError, RecordError, StaleVersionError
from compute_bridge.ports.network import Entry, Network, SupportsBatches
from compute_bridge.wire.record_ids import own_id
from compute_bridge.wire.signing import Signed, open_signed, sign
from compute_bridge_market.module import Module

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PUT_TRIES = 8


@frozen
class Publisher:
    """Signs with the module's key, and keeps to what it has once said.

    After a crash a step is done again, at a later tick and so with other bytes; what stands under the id
    already is then the answer.
    """

    network: Network
    module: Module

    def sign(self, value: T) -> Signed[T]:
        """Return ``value`` as a record of the market."""
        return sign(value, self.module.secrets.signing, domain=self.module.domain)

    def open(self, raw: bytes, cls: type[T]) -> Signed[T]:
        """Return the market's own record in ``raw``.

        :raises RecordError: if it is not one.
        """
        return open_signed(raw, cls, self.module.domain, by=self.module.key)

    async def find(self, stream: str, record_id: bytes, cls: type[T]) -> Signed[T] | None:
        """Return the market's own record under this id; what others left there is none."""
        entry = await self.network.find(stream, record_id)
        if entry is None:
            return None
        return self.own(stream, entry, cls)

    def own(self, stream: str, entry: Entry, cls: type[T]) -> Signed[T] | None:
        """Return the market's own record in ``entry``; what others left there, or put there again, is none."""
        try:
            found = self.open(entry.record, cls)
        except RecordError as error:
            logger.warning("stream %s: entry %d is not the market's: %s", stream, entry.sequence, error)
            return None
        if own_id(found.value) != entry.record_id:
            logger.warning("stream %s: entry %d is a replay under another id", stream, entry.sequence)
            return None
        return found

    async def once(self, stream: str, record_id: bytes, value: T) -> Signed[T]:
        """Append ``value`` unless the market has spoken under this id; return what it says there.

        Where somebody else's bytes hold the id the record stays unpublished, which only a network without
        access rules allows; what follows from it is done all the same.
        """
        signed = self.sign(value)
        try:
            await self.network.append(stream, record_id, signed.raw)
        except RecordConflictError:
            return await self.find(stream, record_id, type(value)) or signed
        return signed

    async def append_all(self, stream: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Append several records, in one step where the network can.

        :raises RecordConflictError: if one id holds other bytes.
        """
        if isinstance(self.network, SupportsBatches):
            await self.network.append_many(stream, records)
            return
        for record_id, record in records:
            await self.network.append(stream, record_id, record)

    async def put(self, collection: str, key: bytes, signed: Signed[T], *, stands: Callable[[T], bool]) -> None:
        """Set the key to ``signed`` unless the market's value there already ``stands`` for it or for later."""
        for _ in range(_PUT_TRIES):
            current = await self.network.get(collection, key)
            if current is not None and self._stands(current.value, type(signed.value), stands):
                return
            try:
                await self.network.put(collection, key, signed.raw, expect=current.version if current else 0)
            except StaleVersionError:
                continue
            return
        logger.error("collection %s: key %s is rewritten faster than we can write", collection, key.hex())

    def _stands(self, raw: bytes, cls: type[T], stands: Callable[[T], bool]) -> bool:
        try:
            return stands(self.open(raw, cls).value)
        except RecordError:
            return False
