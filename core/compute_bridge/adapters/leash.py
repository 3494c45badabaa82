"""The end of a process that has been told to stop and does not come to it."""

import logging
import os
import threading

logger = logging.getLogger(__name__)

LEAVE_S = 20.0
"""How long a stopped bridge may take to close, in real seconds."""


class Leash:
    """Ends the process ``seconds`` after its start whatever still runs: each lease goes on where the journal shows it.

    A clean-up may be waiting for a backend that does not answer, and nobody who stops a bridge waits for that.
    """

    def __init__(self, seconds: float = LEAVE_S) -> None:
        self._timer = threading.Timer(seconds, self._leave)
        self._timer.daemon = True

    def start(self) -> None:
        """Begin to count."""
        self._timer.start()

    def cancel(self) -> None:
        """Let the process live; harmless when it was not started."""
        self._timer.cancel()

    def _leave(self) -> None:
        logger.warning("leaving in the middle of a clean-up; the next start goes on with it")
        logging.shutdown()
        os._exit(0)
