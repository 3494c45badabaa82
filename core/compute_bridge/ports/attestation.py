"""What proves the platform that a bridge runs on, and what checks the proof."""

from abc import ABC, abstractmethod

from compute_bridge.model.quote import Evidence, QuotePolicy, VerifiedQuote


class QuoteSource(ABC):
    """The platform's way to a TDX quote.

    ``name`` is the word of the boot file. ``development`` says that the quotes prove nothing about
    hardware; it is shown wherever they go, and such a source is refused unless allowed in words.
    """

    name: str
    development: bool

    @abstractmethod
    async def quote(self, report_data: bytes) -> Evidence:
        """Return a fresh quote over ``report_data``, which is exactly 64 bytes.

        Called at boot and whenever a new challenge or key must be bound; may be called concurrently.

        :raises NoQuoteError: if the platform gives no quote.
        """


class QuoteVerifier(ABC):
    """Checks evidence down to a named trust anchor. It does no I/O and reads no clock."""

    @abstractmethod
    def verify(self, evidence: Evidence, *, report_data: bytes, now_s: int, policy: QuotePolicy) -> VerifiedQuote:
        """Return what ``evidence`` proves at ``now_s`` (Unix seconds), or raise.

        ``report_data`` is what the caller computed from the keys it sees, never what the quote says.
        A quote under a development anchor passes only where the policy allows development.

        :raises AttestationError: if anything at all is wrong; its ``reason`` is an
            :class:`~compute_bridge.model.quote.AttestationReason`.
        """
