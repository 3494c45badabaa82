"""A call that takes long: held in the server's thread until a test lets it go on."""

import asyncio
import threading

import anyio

_LONGEST_S = 30.0


class HeldCall:
    """One call that is under way: ``reached`` once it has arrived, gone on with on :meth:`release`.

    To be made on the event loop.
    """

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self._loop = asyncio.get_running_loop()
        self._released = threading.Event()

    def hold(self) -> None:
        """Wait in the server's thread."""
        self._loop.call_soon_threadsafe(self.reached.set)
        self._released.wait(_LONGEST_S)

    def release(self) -> None:
        """Let it go on."""
        self._released.set()
