"""The epoch of a boot: raised once by compare-and-set, then watched, so that of two bridges one gives way."""

import logging
from contextlib import aclosing
from typing import NoReturn

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.model.card import EpochClaim
from compute_bridge.model.channels import EPOCHS
from compute_bridge.model.ids import ProviderId, PublicKey, provider_id, short
from compute_bridge.ports.errors import MarketError, RecordError, StaleVersionError
from compute_bridge.ports.network import Network, Versioned
from compute_bridge.wire.signing import Domain, Signed, open_signed, public_key, sign

logger = logging.getLogger(__name__)


class SupersededError(MarketError):
    """Another bridge with this identity has started since; stop selling, and end one of the two."""


@frozen
class Epoch:
    """The epoch that a boot holds, and the signed claim by which it does."""

    number: int
    claim: Signed[EpochClaim]


async def raise_epoch(
    network: Network, domain: Domain, root_secret: Ed25519PrivateKey, signing_key: PublicKey, *, above: int = 0
) -> Epoch:
    """Claim the next epoch for the boot whose key is ``signing_key``, and return it.

    It is one more than the last claimed, and more than ``above``, the last that the caller knows of. When two
    bridges raise it at once, each gets its own.

    :raises MarketError: if what stands under our provider id is no claim of our root key.
    """
    root = public_key(root_secret)
    provider = provider_id(domain.coalition, root)
    while True:
        current = await network.get(EPOCHS, provider)
        last = 0 if current is None else _claim(current, domain, root).value.epoch
        number = max(last, above) + 1
        claim = sign(EpochClaim(provider, root, number, signing_key), root_secret, domain=domain)
        try:
            await network.put(EPOCHS, provider, claim.raw, expect=current.version if current else 0)
        except StaleVersionError:
            logger.warning("provider %s: somebody else has just raised the epoch; trying again", short(provider))
            continue
        return Epoch(number, claim)


async def require_last(network: Network, domain: Domain, epoch: Epoch) -> None:
    """Return if ours is still the last epoch: asked before each create, for a fence stops no call already made.

    :raises SupersededError: if our root key has claimed a later one.
    :raises NetworkError: if nobody can tell now.
    """
    mine = epoch.claim.value
    current = await network.get(EPOCHS, mine.provider_id)
    if current is not None:
        _give_way(current, domain, mine)


async def hold_epoch(network: Network, domain: Domain, epoch: Epoch) -> NoReturn:
    """Watch the epochs for as long as ours is the last.

    :raises SupersededError: when our root key has claimed a later one: another bridge has our identity.
    """
    mine = epoch.claim.value
    async with aclosing(network.watch(EPOCHS)) as claims:
        async for current in claims:
            if current.key == mine.provider_id:
                _give_way(current, domain, mine)
    raise MarketError("the watch of the epochs ended; is the network closed?")


def _give_way(current: Versioned, domain: Domain, mine: EpochClaim) -> None:
    try:
        other = _claim(current, domain, mine.root_key).value
    except MarketError as error:
        # Only our root key can raise our epoch, so whatever else stands there changes nothing.
        logger.error("%s", error)  # noqa: TRY400 - the message says it all
        return
    if other.epoch > mine.epoch or (other.epoch == mine.epoch and other.signing_key != mine.signing_key):
        raise SupersededError(
            f"provider {short(mine.provider_id)}: another bridge with this identity claimed epoch {other.epoch},"
            f" ours is {mine.epoch}; this one stops selling: end one of the two, or give it its own root key"
        )


def _claim(current: Versioned, domain: Domain, root: PublicKey) -> Signed[EpochClaim]:
    try:
        claim = open_signed(current.value, EpochClaim, domain, by=root)
    except RecordError as error:
        raise MarketError(
            f"provider {short(current.key)}: what stands as its epoch is no claim of its root key ({error});"
            " ask the coalition's operator who wrote it"
        ) from error
    if claim.value.provider_id != ProviderId(current.key):
        raise MarketError(f"provider {short(current.key)}: its epoch claim names another provider")
    return claim
