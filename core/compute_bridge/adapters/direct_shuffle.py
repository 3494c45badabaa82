"""The shuffle that hides nothing: envelopes and replies as streams of the network."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from blake3 import blake3

from compute_bridge.ports.errors import TailMovedError
from compute_bridge.ports.network import Network
from compute_bridge.ports.shuffle import MAX_CANDIDATES, Shuffle, ShuffleFullError, check_pointer


class DirectShuffle(Shuffle):
    """Posts and replies on the streams ``shuffle/envelopes/<pointer>`` and ``shuffle/replies/<pointer>``.

    Record ids are the blake3 of the bytes. Whoever runs the network sees who posts under which pointer;
    the contents are sealed all the same.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def name(self) -> str:
        """The word ``direct``."""
        return "direct"

    @property
    def anonymity(self) -> str:
        """The word ``none``."""
        return "none"

    async def post(self, pointer: bytes, sealed: bytes) -> None:
        """Append the envelope unless the stream is full."""
        stream, record_id = _envelopes(pointer), blake3(sealed).digest()
        while True:
            tail = await self._network.tail(stream)
            if tail >= MAX_CANDIDATES:
                break
            try:
                await self._network.append(stream, record_id, sealed, expect_last=tail)
            except TailMovedError:
                continue  # somebody posted meanwhile, which happens MAX_CANDIDATES times at most
            return
        if await self._network.find(stream, record_id) is None:
            raise ShuffleFullError(
                f"bearer pointer {pointer.hex()}: gathers {MAX_CANDIDATES} envelopes already; "
                "ask again under another pointer"
            )

    def resolve(self, pointer: bytes) -> AsyncGenerator[bytes, None]:
        """Follow the envelopes' stream to the last candidate."""
        return self._follow(_envelopes(pointer), MAX_CANDIDATES)

    async def reply(self, pointer: bytes, sealed: bytes) -> None:
        """Append the reply."""
        await self._network.append(_replies(pointer), blake3(sealed).digest(), sealed)

    def collect(self, pointer: bytes) -> AsyncGenerator[bytes, None]:
        """Follow the replies' stream for ever."""
        return self._follow(_replies(pointer), None)

    async def _follow(self, stream: str, last: int | None) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._network.follow(stream)) as entries:
            async for entry in entries:
                yield entry.record
                if entry.sequence == last:
                    return


def _envelopes(pointer: bytes) -> str:
    return f"shuffle/envelopes/{check_pointer(pointer).hex()}"


def _replies(pointer: bytes) -> str:
    return f"shuffle/replies/{check_pointer(pointer).hex()}"
