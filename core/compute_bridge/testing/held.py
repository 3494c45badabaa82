"""A create that stands still at its worst moment."""

import anyio


class Held:
    """A create that a World holds: the machine exists and costs money, but the backend has not got it ready."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        """Set by the World when the machine exists."""
        self.released = anyio.Event()
        """Awaited by the World before the machine becomes ready; set by :meth:`release`."""

    def release(self) -> None:
        """Let the machine become ready and the call return; a second release is nothing."""
        self.released.set()
