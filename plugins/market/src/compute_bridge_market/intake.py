"""Intake of requests: sealed to the market, paid for by an account, republished under the one-time key."""

import logging
from functools import partial

from attrs import define, frozen

from compute_bridge.model import channels
from compute_bridge.model.ids import PublicKey, RequestId
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import ComputeRequest, RequestSubmission, RequestVerdict
from compute_bridge.model.ticket import AdmittedRequest, Ticket
from compute_bridge.ports.errors import RecordError
from compute_bridge.ports.network import Entry
from compute_bridge.wire.sealing import SealContext, unseal
from compute_bridge.wire.signing import Signed, open_self_signed
from compute_bridge_market.almanac import Almanac
from compute_bridge_market.book import Book, Effects
from compute_bridge_market.ledger import free_credit
from compute_bridge_market.module import Module
from compute_bridge_market.publishing import Publisher
from compute_bridge_market.requests import book_request, count_open, find_request

logger = logging.getLogger(__name__)

NO_SENDER = PublicKey(bytes(32))
"""Stands for the sender in a submission's seal: who it is from shows only once it is open."""


def submission_context(module: Module) -> SealContext:
    """Return what every submission to this market is sealed for."""
    return SealContext("submission", module.config_fingerprint, 0, NO_SENDER, module.config.sealing_key)


@frozen
class _Submitted:
    account: PublicKey
    request: Signed[ComputeRequest]

    @property
    def id(self) -> RequestId:
        return RequestId(self.request.hash)


@define
class Intake:
    """Opens each submission and answers it once; only the book links the request to its account."""

    publisher: Publisher
    book: Book
    almanac: Almanac

    async def take(self, entry: Entry) -> Effects | None:
        """Return what an admitted request changes in the book.

        :raises RecordError: if it is not a submission, or its request has come before.
        :raises EnvelopeError: if it is not sealed to this market.
        """
        submitted = self._open(entry.record)
        if await self.book.run(lambda db: find_request(db, submitted.id)) is not None:
            raise RecordError(f"{Reason.REQUEST_REPLAYED}: request {submitted.id.hex()[:12]} is admitted already")
        decided = RequestVerdict(
            submitted.id, submitted.request.value.request_key, await self._decide(submitted), self.almanac.now
        )
        verdict = (await self.publisher.once(channels.REQUEST_VERDICTS, submitted.id, decided)).value
        logger.info("request %s: %s", submitted.id.hex()[:12], verdict.reason)
        if verdict.reason != Reason.ADMITTED:
            return None
        await self._republish(submitted, verdict)
        return partial(
            book_request,
            request_id=submitted.id,
            request=submitted.request.value,
            account=submitted.account,
            admitted_at=verdict.tick,
        )

    def _open(self, sealed: bytes) -> _Submitted:
        module = self.publisher.module
        raw = unseal(sealed, module.secrets.sealing, submission_context(module))
        submission = open_self_signed(raw, RequestSubmission, module.domain, signer=lambda one: one.account).value
        request = open_self_signed(
            submission.request, ComputeRequest, module.domain, signer=lambda one: one.request_key
        )
        return _Submitted(submission.account, request)

    async def _decide(self, submitted: _Submitted) -> Reason:
        module, request = self.publisher.module, submitted.request.value
        account = module.accounts.get(submitted.account)
        if account is None:
            return Reason.ACCOUNT_UNKNOWN
        if request.currency != module.config.currency:
            return Reason.REQUEST_MALFORMED
        if request.expires_at <= self.almanac.now:
            return Reason.REQUEST_EXPIRED
        waiting, credit = await self.book.run(
            lambda db: (count_open(db, account.key), free_credit(db, account.key, account.credit_micros))
        )
        if waiting >= module.limits.open_requests or credit <= 0:
            return Reason.CREDIT_LIMIT
        return Reason.ADMITTED

    async def _republish(self, submitted: _Submitted, verdict: RequestVerdict) -> None:
        request = submitted.request
        ticket = Ticket(self.publisher.module.key, request.value.request_key, submitted.id, request.value.expires_at)
        admitted = AdmittedRequest(request.raw, ticket, verdict.tick)
        await self.publisher.once(channels.REQUESTS, submitted.id, admitted)
