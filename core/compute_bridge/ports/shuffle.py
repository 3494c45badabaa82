"""The shuffle: how a sealed envelope reaches the winner, and a sealed receipt the requester."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Final

from compute_bridge.ports.errors import NetworkError

#: How many envelopes one pointer may gather; the bridge tries no more.
MAX_CANDIDATES: Final = 8


class ShuffleFullError(NetworkError):
    """The pointer gathers as many envelopes as anybody will try; ask again under another pointer."""


def check_pointer(pointer: bytes) -> bytes:
    """Return ``pointer`` when it may name an envelope.

    :raises ValueError: if it has not 16 to 32 bytes.
    """
    if not 16 <= len(pointer) <= 32:
        raise ValueError(f"bearer pointer of {len(pointer)} bytes: must have 16 to 32; draw a new one")
    return pointer


class Shuffle(ABC):
    """Carries sealed bytes under a pointer, both ways.

    Anybody who knows a pointer can post under it, so what comes out is a candidate until it opens. The
    bytes are opaque here and sealed by the caller. Failures are ``NetworkError``; every method raises
    ``ValueError`` for a pointer that has not 16 to 32 bytes.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The word for the boot file and the card."""

    @property
    @abstractmethod
    def anonymity(self) -> str:
        """What the path hides about the sender, in words; ``"none"`` when it hides nothing."""

    @abstractmethod
    async def post(self, pointer: bytes, sealed: bytes) -> None:
        """Leave an envelope for whoever resolves ``pointer``; the same bytes again change nothing.

        :raises ShuffleFullError: if the pointer already gathers ``MAX_CANDIDATES`` other envelopes.
        :raises RecordTooLargeError: if the envelope is larger than the path carries.
        """

    @abstractmethod
    def resolve(self, pointer: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the envelopes under ``pointer`` in order, waiting for more; ends after ``MAX_CANDIDATES``."""

    @abstractmethod
    async def reply(self, pointer: bytes, sealed: bytes) -> None:
        """Leave a reply for the requester; the same bytes again change nothing.

        :raises RecordTooLargeError: if the reply is larger than the path carries.
        """

    @abstractmethod
    def collect(self, pointer: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the replies under ``pointer`` in order, then each later one, for ever."""
