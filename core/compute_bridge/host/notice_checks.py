"""What must hold of an interruption notice before it is shown: by a boot of the provider that was awarded."""

import logging
from contextlib import aclosing

from compute_bridge.host.card_checks import UntrustedError
from compute_bridge.host.log_checks import open_by_boot, whole_stream
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import short
from compute_bridge.model.notice import InterruptionNotice

logger = logging.getLogger(__name__)

MOST_TRIED = 64
"""How many records that name a grant are verified: anybody may write to a stream."""


async def find_notice(market: Market, grant: ComputeGrant) -> InterruptionNotice | None:
    """Return the provider's interruption notice for a grant, verified, or ``None`` where there is none.

    What stands under the grant's id and does not verify is passed over, and the notice looked for under other ids.
    """
    entry = await market.network.find(channels.NOTICES, grant.id)
    if entry is None:
        return None
    if (notice := await _opened(market, grant, entry.record)) is not None:
        return notice
    tried = 0
    async with aclosing(whole_stream(market, channels.NOTICES)) as entries:
        async for other in entries:
            # The payload holds the id as it is; what does not is of another grant, and costs nothing to pass over.
            if other.record_id == grant.id or bytes(grant.id) not in other.record:
                continue
            if (notice := await _opened(market, grant, other.record)) is not None:
                return notice
            tried += 1
            if tried == MOST_TRIED:
                break
    return None


async def _opened(market: Market, grant: ComputeGrant, raw: bytes) -> InterruptionNotice | None:
    try:
        signed, epoch = await open_by_boot(market, grant, raw, InterruptionNotice, what="interruption notice")
    except UntrustedError as error:
        logger.warning("passed over: %s", error)
        return None
    notice = signed.value
    if (notice.grant_id, notice.provider_id, notice.epoch) != (grant.id, grant.provider_id, epoch):
        logger.warning("passed over: interruption notice of grant %s is for another one or epoch", short(grant.id))
        return None
    return notice
