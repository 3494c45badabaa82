"""Where a requester keeps what must outlive its process: one-time keys, envelopes, receipts."""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from compute_bridge.model.ids import RequestId
from compute_bridge.ports.errors import ComputeBridgeError

#: The largest piece: a sealed envelope, its secrets and a grant take a fraction of it.
MAX_PIECE_BYTES: Final = 262_144

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,62}")


class StoreError(ComputeBridgeError):
    """What a requester keeps cannot be read or written; nothing was sent, mend the folder and try again."""


def check_piece(name: str) -> str:
    """Return ``name`` when a piece may be called so.

    :raises ValueError: if it is not one to 63 of ``a-z 0-9 . _ -``, the first a letter.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"piece {name[:80]!r}: must match [a-z][a-z0-9._-]{{0,62}}; rename it")
    return name


class RequesterStore(ABC):
    """Named pieces of bytes for each request. They hold private keys, so nobody else may read them."""

    @abstractmethod
    async def write(self, request: RequestId, name: str, data: bytes) -> Path:
        """Replace the piece at once and as a whole; durable when it returns. Return the file it lies in.

        :raises StoreError: if it cannot be written; the piece is as it was.
        """

    @abstractmethod
    async def read(self, request: RequestId, name: str) -> bytes | None:
        """Return the piece, or None if there is none.

        :raises StoreError: if it cannot be read, or others may read it.
        """

    @abstractmethod
    async def requests(self) -> tuple[RequestId, ...]:
        """Return every request of which a piece is kept, ascending."""
