"""What stands outside the bridge once everything is quiet: told by clouds, market and network, never by the bridge.

Ids and hashes are lower-case hex, money is whole micros, times are milliseconds of the cloud's own clock.
"""

from attrs import field, frozen

NO_LOG = "00" * 32
"""What a statement says for the log's hash where the market ended the grant because no log came in time."""


@frozen
class Machine:
    """One machine ever made with our tags, dead ones also. ``ended_ms`` is None while it lives.

    ``grant_hash`` is the hash of the grant's record, as the machine's tags carry it.
    """

    id: str
    token: str
    grant_hash: str
    started_ms: int
    ended_ms: int | None = None


@frozen
class Award:
    """One grant that the market awarded; ``duration_ms`` is the duration in force, extensions included.

    ``shorter_ms`` are the durations that were in force before the last extension: a lease that ended before the market
    heard of its end may be extended all the same.
    """

    grant: str
    grant_hash: str
    provider: str
    rate: int
    duration_ms: int
    shorter_ms: tuple[int, ...] = ()


@frozen
class Log:
    """One entry of the stream of usage logs, by the provider of its grant; ``hash`` is the record's."""

    grant: str
    hash: str
    outcome: str
    started_ms: int
    billable_ms: int
    reason: str = ""


@frozen
class Statement:
    """One entry of the market's statements; 0 is the sequence of the one that counts."""

    grant: str
    sequence: int
    log_hash: str
    billable_ms: int
    charge: int
    provider_fee: int = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether the market gave the grant up before a log came; a claim for it cannot be honoured."""
        return self.log_hash == NO_LOG


@frozen
class Claimed:
    """One entry of the stream of claims."""

    grant: str
    amount: int


@frozen
class Reply:
    """One sealed receipt, each time that it was sent."""

    grant: str
    sealed: bytes = field(repr=False)


@frozen(kw_only=True)
class Truth:
    """Everything, after quiescence.

    ``balances`` are the market's ledger by account name (``held/…``, ``holds``, ``owed-by/…``, ``owed-to/<provider>``,
    ``fees``). ``books`` is what each provider's own book says it is owed. ``leases`` is the state of each lease
    in the bridges' journals, by grant.

    ``grace_ms`` is how much longer than its log bills the machines of one grant may have lived, all together: the
    pauses in which nobody could end them, and the bridge's own haste. ``tolerance_ms`` is how much more than a
    machine's true life may be billed, and how early a lease may end at its deadline.
    """

    machines: tuple[Machine, ...]
    awards: tuple[Award, ...]
    logs: tuple[Log, ...]
    statements: tuple[Statement, ...]
    claims: tuple[Claimed, ...]
    replies: tuple[Reply, ...]
    balances: dict[str, int]
    books: dict[str, int]
    leases: dict[str, str]
    grace_ms: int
    tolerance_ms: int = 0

    def machines_of(self, award: Award) -> tuple[Machine, ...]:
        """Return the machines ever made for one grant, in the order in which they started."""
        own = [one for one in self.machines if one.grant_hash == award.grant_hash]
        return tuple(sorted(own, key=lambda one: (one.started_ms, one.id)))

    def counting(self, grant: str) -> tuple[Statement, ...]:
        """Return the statements on a grant that count: there should be one."""
        return tuple(one for one in self.statements if one.grant == grant and one.sequence == 0)
