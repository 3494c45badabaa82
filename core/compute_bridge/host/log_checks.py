"""What must hold of a usage log: by a boot of the provider that was awarded, and no more billed than granted."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import anyio

from compute_bridge.host.card_checks import (
    AdmittedCard,
    UntrustedError,
    check_certificate,
    check_epoch,
    check_provider,
    find_card,
)
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.card import RosterEntry
from compute_bridge.model.control import ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, PublicKey, short
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds
from compute_bridge.model.usage import ComputeLog, Outcome
from compute_bridge.ports.errors import MarketError, RecordError, SignatureError
from compute_bridge.ports.network import Entry
from compute_bridge.wire.signing import Signed, open_signed

T = TypeVar("T")

NO_LOG = Fingerprint(bytes(32))
"""What stands for the log in the statement of a grant that the module has given up: none ever came."""


async def find_log(market: Market, grant: ComputeGrant) -> Signed[ComputeLog]:
    """Return the usage log of a grant, verified.

    :raises MarketError: if its provider has written none.
    :raises UntrustedError: if what stands in its place is not its provider's account of it.
    """
    entry = await market.log_entry(grant.id)
    if entry is None:
        raise MarketError(f"grant {short(grant.id)} has no usage log; its lease has not ended")
    return await open_log(market, grant, entry.record)


async def await_log(market: Market, grant: ComputeGrant) -> Signed[ComputeLog]:
    """Return the usage log of a grant, verified, as soon as its provider has written it.

    :raises UntrustedError: if what stands in its place is not its provider's account of it.
    """
    after = await market.network.tail(channels.LOGS)
    if await market.log_entry(grant.id) is None:
        await _await_entry(market, channels.LOGS, grant.id, after)
    return await find_log(market, grant)


async def await_abandoned(market: Market, grant: ComputeGrant) -> None:
    """Return when the module has given a grant up because its provider never accounted for it; else never."""
    key = grant.id + channels.number(0)
    after = await market.network.tail(channels.SETTLEMENTS)
    if await market.network.find(channels.SETTLEMENTS, key) is None:
        await _await_entry(market, channels.SETTLEMENTS, key, after)
    if (await market.statement(grant.id)).value.log_hash != NO_LOG:
        await anyio.sleep_forever()


async def open_log(market: Market, grant: ComputeGrant, raw: bytes) -> Signed[ComputeLog]:
    """Return the usage log in ``raw``: signed by a boot key of the provider, and of the epoch of that key."""
    log, epoch = await open_by_boot(market, grant, raw, ComputeLog, what="usage log")
    _check_names(log.value, grant, epoch)
    return log


async def open_by_boot(
    market: Market, grant: ComputeGrant, raw: bytes, cls: type[T], *, what: str
) -> tuple[Signed[T], int]:
    """Return a record that a boot of the awarded provider has signed, and the epoch of that boot.

    :raises UntrustedError: if none has, or if it is no such record.
    """
    async with aclosing(_boot_keys(market, grant)) as keys:
        async for key, epoch in keys:
            try:
                return open_signed(raw, cls, market.domain, by=key), epoch
            except SignatureError:
                continue  # another boot's, or nobody's
            except RecordError as error:
                raise UntrustedError(
                    f"{what} of grant {short(grant.id)}: {error}", reason=Reason.LOG_DISPUTED
                ) from error
    raise UntrustedError(
        f"{what} of grant {short(grant.id)} is signed by no boot of provider {short(grant.provider_id)}",
        reason=Reason.LOG_DISPUTED,
    )


async def is_void(market: Market, grant: ComputeGrant) -> bool:
    """Return whether the provider gave the grant up, or never accounted for it and the module gave it up."""
    if await market.log_entry(grant.id) is not None:
        return (await find_log(market, grant)).value.outcome is not Outcome.SERVED
    return (await market.statement(grant.id)).value.log_hash == NO_LOG


def check_billable(log: ComputeLog, total: Milliseconds) -> None:
    """Return if the log bills no more than was granted, and than it ran.

    :raises UntrustedError: if it does.
    """
    ran = log.ended_at - log.started_at
    if log.billable_ms > min(total, ran):
        raise UntrustedError(
            f"usage log of grant {short(log.grant_id)} bills {log.billable_ms} ms; it ran {ran} ms and {total} were "
            "granted",
            reason=Reason.LOG_DISPUTED,
        )


async def total_duration(market: Market, grant: ComputeGrant) -> Milliseconds:
    """Return how long the grant may run with every extension that the module has applied."""
    total = grant.duration_ms
    async for entry in whole_stream(market, channels.CONTROL_VERDICTS):
        if entry.record_id.startswith(grant.id):
            verdict = _module_verdict(market, entry)
            if verdict is not None and verdict.grant_id == grant.id and verdict.reason == Reason.CONTROL_APPLIED:
                total = max(total, verdict.duration_ms)
    return total


async def whole_stream(market: Market, stream: str, *, after: int = 0) -> AsyncGenerator[Entry, None]:
    """Yield every entry of a stream after ``after``, up to where it ends now."""
    while page := await market.network.fetch(stream, after=after):
        for entry in page:
            yield entry
        after = page[-1].sequence


async def _await_entry(market: Market, stream: str, record_id: bytes, after: int) -> None:
    async with aclosing(market.network.follow(stream, after=after)) as entries:
        async for entry in entries:
            if entry.record_id == record_id:
                return


def _check_names(log: ComputeLog, grant: ComputeGrant, epoch: int) -> None:
    if (log.grant_id, log.provider_id, log.epoch) != (grant.id, grant.provider_id, epoch):
        raise UntrustedError(
            f"usage log of grant {short(grant.id)} is for another grant, provider or epoch", reason=Reason.LOG_DISPUTED
        )


def _module_verdict(market: Market, entry: Entry) -> ControlVerdict | None:
    try:
        return open_signed(entry.record, ControlVerdict, market.domain, by=market.config.signing_key).value
    except RecordError:
        return None  # anybody may write to a stream; only the module's word counts


async def _boot_keys(market: Market, grant: ComputeGrant) -> AsyncGenerator[tuple[PublicKey, int], None]:
    """Yield key and epoch of the provider's boots: the card's, the current one, then every one in the history."""
    found = await find_card(market, grant.card_hash)
    check_provider(found, grant.provider_id)
    certificate = check_certificate(found, market.domain)
    yield certificate.keys.signing, certificate.epoch
    claim = await check_epoch(found, certificate, market)
    yield claim.signing_key, claim.epoch
    async for entry in whole_stream(market, channels.CARDS):
        older = _card_of(market, grant, entry)
        if older is not None:
            yield older.card.binding.keys.signing, older.card.epoch


def _card_of(market: Market, grant: ComputeGrant, entry: Entry) -> AdmittedCard | None:
    try:
        admitted = open_signed(entry.record, RosterEntry, market.domain, by=market.config.signing_key)
        found = AdmittedCard(admitted, market.open_card(admitted))
        check_provider(found, grant.provider_id)
        check_certificate(found, market.domain)
    except (RecordError, UntrustedError):
        return None
    return found
