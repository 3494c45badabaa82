"""Records that must reach the network sooner or later, unchanged."""

import logging

from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import NetworkError, RecordConflictError, RecordTooLargeError
from compute_bridge.ports.network import Network

logger = logging.getLogger(__name__)

FIRST_WAIT_MS = 100
LONGEST_WAIT_MS = 15_000


async def send(network: Network, stream: str, record_id: bytes, raw: bytes, *, clock: Clock) -> int:
    """Append ``raw`` and return its sequence, trying for as long as the network does not answer.

    Appending the same bytes twice is appending once, so a try whose answer was lost does no harm.

    :raises RecordConflictError: if the id already names other bytes.
    :raises RecordTooLargeError: if the network will never carry it.
    """
    wait = FIRST_WAIT_MS
    while True:
        try:
            return await network.append(stream, record_id, raw)
        except (RecordConflictError, RecordTooLargeError):
            raise
        except NetworkError as error:
            logger.warning("network did not take a record of %s, trying again: %s", stream, error)
        await clock.sleep_ms(wait)
        wait = min(2 * wait, LONGEST_WAIT_MS)
