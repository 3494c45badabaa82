"""The requester's file, ``requester.toml``, as values: where the market is, and whom to believe."""

from typing import Any

from attrs import field, frozen

from compute_bridge.model.boot import (
    ALLOW_DEVELOPMENT,
    AnchorSettings,
    CoalitionSettings,
    FilePath,
    NetworkSettings,
    SecretRef,
    ShuffleSettings,
    about,
)
from compute_bridge.model.quote import Measurements


@frozen(kw_only=True)
class AccountKey:
    """``[account]``: who pays."""

    key: SecretRef = field(metadata=about("the account's private key, 64 hex digits; the market knows its public half"))


@frozen(kw_only=True)
class StoreSettings:
    """``[store]``: where one-time keys and receipts are kept."""

    dir: FilePath = field(metadata=about("a folder that only you can read; made when it is missing"))


@frozen(kw_only=True)
class TrustSettings:
    """``[attestation]``: which quotes are good enough to be sealed to."""

    development: str = field(default="", metadata=about(f'"{ALLOW_DEVELOPMENT}", in exactly these words, or nothing'))
    anchors: tuple[AnchorSettings, ...] = field(default=(), metadata=about("trust anchors besides Intel's own root"))
    tcb_statuses: tuple[str, ...] = field(
        default=("UpToDate",), metadata=about("the TCB statuses that are good enough")
    )
    rejected_advisories: tuple[str, ...] = field(
        default=(), metadata=about("advisories that must not be open on a platform")
    )
    measurements: tuple[Measurements, ...] = field(
        default=(), metadata=about("the measurements that a bridge may have; none listed means any")
    )

    @development.validator
    def _in_words(self, _attribute: object, value: str) -> None:
        if value not in ("", ALLOW_DEVELOPMENT):
            raise ValueError(f'development must be exactly "{ALLOW_DEVELOPMENT}", or be left out')
        if not value and any(anchor.development for anchor in self.anchors):
            raise ValueError(f'a development anchor proves nothing about hardware: allow it by "{ALLOW_DEVELOPMENT}"')

    @anchors.validator
    def _distinct(self, _attribute: object, value: tuple[AnchorSettings, ...]) -> None:
        names = [anchor.name for anchor in value]
        if len(set(names)) != len(names):
            raise ValueError("two anchors have one name; every name must be its own")

    @property
    def allows_development(self) -> bool:
        """Whether the requester has allowed development attestation in words."""
        return self.development == ALLOW_DEVELOPMENT


@frozen(kw_only=True)
class RuleSettings:
    """``[clearing]``: the settings of the coalition's clearing rule, for who computes rounds again."""

    settings: dict[str, Any] = field(factory=dict, metadata=about("the keys of the coalition's rule", rest=True))


@frozen(kw_only=True)
class RequesterFile:
    """Everything in ``requester.toml``; paths absolute, secrets as references. An auditor needs no account."""

    coalition: CoalitionSettings
    network: NetworkSettings
    shuffle: ShuffleSettings = field(factory=ShuffleSettings)
    account: AccountKey | None = None
    store: StoreSettings | None = None
    attestation: TrustSettings = field(factory=TrustSettings)
    clearing: RuleSettings = field(factory=RuleSettings)
