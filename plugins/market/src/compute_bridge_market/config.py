"""The market's file, ``market.toml``, as values: what a coalition operator may say in it."""

from typing import Any

from attrs import field, frozen

from compute_bridge.model.boot import ALLOW_DEVELOPMENT, AnchorSettings, FilePath, SecretRef, about
from compute_bridge.model.checks import each, label, octets, text, whole
from compute_bridge.model.coalition import MAX_FEE
from compute_bridge.model.ids import PublicKey
from compute_bridge.model.quote import MEASUREMENT_BYTES, RTMR_COUNT
from compute_bridge.model.units import BasisPoints, Micros

MAX_CREDIT = 2**62
"""The ledger adds credit lines up in 64 bits."""


def _rest() -> dict[str, Any]:
    return about("the keys of the kind that is named", rest=True)


def _once(word: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{word}: {twice[0]!r} stands twice; every one must be its own")


@frozen(kw_only=True)
class CoalitionSettings:
    """``[coalition]``: what the market belongs to."""

    name: str = field(validator=text(1, 64), metadata=about("what people call the coalition"))
    seed: bytes = field(
        validator=octets(32), metadata=about("64 hex digits, drawn once; the coalition's id follows from them")
    )
    handshake: FilePath = field(metadata=about("where the handshake file lies that participants are given"))
    currency: str = field(validator=text(3, 8), metadata=about("the one currency of all rates and charges"))


@frozen(kw_only=True)
class KeySettings:
    """``[keys]``: the module's own keys, each a 32-byte seed as 64 hex digits."""

    signing: SecretRef = field(metadata=about("signs every record of the market"))
    sealing: SecretRef = field(metadata=about("opens the requests that are sealed to the market"))


@frozen(kw_only=True)
class NetworkSettings:
    """``[network]``: how records travel."""

    kind: str = field(validator=label, metadata=about("sqlite, or a plugin's"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())

    @property
    def table(self) -> dict[str, Any]:
        """The table as it stands in the file."""
        return {"kind": self.kind, **self.settings}


@frozen(kw_only=True)
class AlmanacSettings:
    """``[almanac]``: the market's clock."""

    cadence_ms: int = field(
        default=1000,
        validator=whole(10, 3_600_000),
        metadata=about("milliseconds from tick to tick, and round to round"),
    )


@frozen(kw_only=True)
class ClearingSettings:
    """``[clearing]``: how a round is matched."""

    rule: str = field(default="lowest-rate", validator=label, metadata=about("lowest-rate, or another plugin's"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())


_fee = whole(-MAX_FEE, MAX_FEE)


@frozen(kw_only=True)
class FeeSettings:
    """``[fees]``: what the market takes, in hundredths of a percent of the charge; negative is a subsidy."""

    requester_bps: BasisPoints = field(
        default=BasisPoints(0), validator=_fee, metadata=about("added to what the requester pays")
    )
    provider_bps: BasisPoints = field(
        default=BasisPoints(0), validator=_fee, metadata=about("taken off what the provider is owed")
    )


@frozen(kw_only=True)
class LimitSettings:
    """``[limits]``: how long things hold, in ticks, and how many one account may have."""

    accept_within_ticks: int = field(
        default=60, validator=whole(1, 10**6), metadata=about("how long a grant may be accepted")
    )
    quote_max_age_ticks: int = field(
        default=86_400, validator=whole(1, 10**9), metadata=about("how old the challenge of a card's quote may be")
    )
    card_max_age_ticks: int = field(
        default=3600, validator=whole(1, 10**9), metadata=about("how long ago a card may have been refreshed")
    )
    grace_ticks: int = field(
        default=600,
        validator=whole(1, 10**6),
        metadata=about("how long after its last possible end a grant without a usage log counts as abandoned"),
    )
    open_requests: int = field(
        default=64, validator=whole(1, 512), metadata=about("how many requests of one account may wait at once")
    )


@frozen(kw_only=True)
class MeasurementSettings:
    """``[[attestation.measurements]]``: a guest that a card may come from."""

    mr_td: bytes = field(validator=octets(MEASUREMENT_BYTES), metadata=about("the guest's MRTD, 96 hex digits"))
    rtmrs: tuple[bytes, ...] = field(
        validator=each(octets(MEASUREMENT_BYTES), RTMR_COUNT, RTMR_COUNT),
        metadata=about("RTMR0 to RTMR3, 96 hex digits each"),
    )


@frozen(kw_only=True)
class AttestationSettings:
    """``[attestation]``: which quotes a card may bring."""

    development: str = field(default="", metadata=about(f'"{ALLOW_DEVELOPMENT}", in exactly these words, or nothing'))
    anchors: tuple[AnchorSettings, ...] = field(default=(), metadata=about("trust anchors besides Intel's own root"))
    tcb_statuses: tuple[str, ...] = field(
        default=("UpToDate",), metadata=about("the TCB statuses that are good enough")
    )
    rejected_advisories: tuple[str, ...] = field(
        default=(), metadata=about("advisories that must not be open on a platform")
    )
    measurements: tuple[MeasurementSettings, ...] = field(
        default=(), metadata=about("the measurements that a card may come from; none listed means any")
    )

    @development.validator
    def _in_words(self, _attribute: object, value: str) -> None:
        if value not in ("", ALLOW_DEVELOPMENT):
            raise ValueError(f'development must be exactly "{ALLOW_DEVELOPMENT}", or be left out')
        if not value and any(anchor.development for anchor in self.anchors):
            raise ValueError(f'a development anchor proves nothing about hardware: allow it by "{ALLOW_DEVELOPMENT}"')

    @anchors.validator
    def _distinct(self, _attribute: object, value: tuple[AnchorSettings, ...]) -> None:
        _once("anchors", [anchor.name for anchor in value])

    @property
    def allows_development(self) -> bool:
        """Whether the operator has allowed development attestation in words."""
        return self.development == ALLOW_DEVELOPMENT


@frozen(kw_only=True)
class LedgerSettings:
    """``[ledger]``: the market's own books."""

    file: FilePath = field(metadata=about("the SQLite file of the books; it alone links requests to accounts"))


@frozen(kw_only=True)
class AccountSettings:
    """``[[account]]``: one requester that may ask, and how much it may owe."""

    name: str = field(validator=label, metadata=about("what the operator calls the account; never published"))
    key: PublicKey = field(validator=octets(32), metadata=about("the account's public key, 64 hex digits"))
    credit_micros: Micros = field(
        validator=whole(0, MAX_CREDIT),
        metadata=about("the most that it may owe and have reserved, in millionths of the currency"),
    )


@frozen(kw_only=True)
class MarketFile:
    """Everything in ``market.toml``; paths absolute, secrets as references."""

    coalition: CoalitionSettings
    keys: KeySettings
    network: NetworkSettings
    ledger: LedgerSettings
    almanac: AlmanacSettings = AlmanacSettings()
    clearing: ClearingSettings = ClearingSettings()
    fees: FeeSettings = FeeSettings()
    limits: LimitSettings = LimitSettings()
    attestation: AttestationSettings = AttestationSettings()
    accounts: tuple[AccountSettings, ...] = field(
        default=(), metadata=about("one requester that may ask", key="account")
    )

    @accounts.validator
    def _accounts_once(self, _attribute: object, value: tuple[AccountSettings, ...]) -> None:
        _once("account", [account.name for account in value])
        _once("account key", [account.key.hex() for account in value])
