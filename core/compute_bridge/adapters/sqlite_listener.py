"""How a client of the network file learns what other processes changed."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Final

from compute_bridge.adapters.sqlite_bell import Bell
from compute_bridge.adapters.sqlite_records import last_touch, touched_since

logger = logging.getLogger(__name__)

#: How often a client looks for changes that no ring announced: the safety net, not the way.
SLOW_LOOK_S: Final = 1.0


class SqliteListener:
    """A thread that looks when the bell rings, or else once a second, and names the topics that changed.

    ``changed`` is called on that thread; with ``None`` when it could not look and anything may have changed.
    """

    def __init__(
        self, connection: sqlite3.Connection, bell: Bell, changed: Callable[[Sequence[str] | None], None]
    ) -> None:
        self._connection = connection
        self._bell = bell
        self._changed = changed
        self._stopping = False
        self._looks = 0
        self._position: int | None = None
        self._thread = threading.Thread(target=self._listen, name="network-listener", daemon=True)
        self._thread.start()

    @property
    def looks(self) -> int:
        """How often it has read the file."""
        return self._looks

    def _listen(self) -> None:
        while not self._stopping:
            self._look()
            self._bell.wait(SLOW_LOOK_S)

    def _look(self) -> None:
        self._looks += 1
        try:
            if self._position is None:
                # Who reads for the first time reads everything, so nothing older is news.
                self._position = last_touch(self._connection)
                self._changed(None)
                return
            touched = touched_since(self._connection, self._position)
        except sqlite3.Error as error:
            logger.warning("cannot look for changes of the network (%s); its readers look for themselves", error)
            self._changed(None)
            return
        if touched:
            self._position = touched[-1][1]
            self._changed([name for name, _ in touched])

    def close(self) -> None:
        """End the thread and give back connection and bell; blocks until that is done."""
        self._stopping = True
        self._bell.stop()
        self._thread.join()
        self._connection.close()
        self._bell.close()
