"""The keys of this boot, and of every boot that the journal knows."""

import logging
import secrets as randomness

from compute_bridge.host.identity import NONCE_BYTES, BootSecrets, Identity
from compute_bridge.host.journal_events import BOOTED
from compute_bridge.model.ids import PublicKey
from compute_bridge.ports.errors import BootError
from compute_bridge.ports.journal import EventDraft, Journal, JournalEvent, JournalUnwritableError

logger = logging.getLogger(__name__)


async def known_boots(journal: Journal, identity: Identity) -> dict[PublicKey, BootSecrets]:
    """Return the keys of every boot in the journal, oldest first.

    :raises BootError: if the journal is another provider's.
    """
    found, after = [], 0
    while events := await journal.events(after=after, kind=BOOTED):
        after = events[-1].sequence
        found += [identity.boot_secrets(_nonce_of(event, identity)) for event in events]
    return {one.keys.signing: one for one in found}


async def boot_keys(journal: Journal, identity: Identity) -> tuple[BootSecrets, dict[PublicKey, BootSecrets]]:
    """Return the keys of this boot, drawn anew and journalled by their nonce, and those of every boot.

    :raises BootError: if the journal is another provider's.
    :raises JournalUnwritableError: if it cannot be written and knows no boot before this one.
    """
    boots = await known_boots(journal, identity)
    fresh = identity.boot_secrets(randomness.token_bytes(NONCE_BYTES))
    try:
        await journal.record(EventDraft(BOOTED, body=fresh.nonce + identity.provider))
        boots[fresh.keys.signing] = fresh
    except JournalUnwritableError as error:
        if not boots:
            raise
        # What runs must be watched and ended though the disk is full; nothing is sold meanwhile.
        logger.error("this boot has the keys of the one before: %s", error)  # noqa: TRY400
    return list(boots.values())[-1], boots


def _nonce_of(event: JournalEvent, identity: Identity) -> bytes:
    nonce, provider = event.body[:NONCE_BYTES], event.body[NONCE_BYTES:]
    if provider != identity.provider:
        raise BootError(
            f"bridge.state_dir: its journal is that of provider {provider.hex()}, but bridge.root_key makes us "
            f"{identity.provider.hex()} in this coalition; name the key that belongs to it, or a folder of its own"
        )
    return nonce
