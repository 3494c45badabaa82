"""The boot file as values: what an operator may say in it, and nothing of how it is read.

``SecretRef``, ``FilePath`` and ``about`` serve the config class of a plugin's kind as well.
"""

from enum import StrEnum
from typing import Any, NewType

from attrs import field, frozen

from compute_bridge.model.card import Custody
from compute_bridge.model.checks import label, octets, whole
from compute_bridge.model.ids import BackendName, Fingerprint
from compute_bridge.model.resources import CapacityBand

SecretRef = NewType("SecretRef", str)
"""Where a secret lies, ``env:NAME`` or ``file:PATH``; never the secret itself."""
FilePath = NewType("FilePath", str)
"""An absolute path; a relative one in a file is taken from that file's folder."""

ALLOW_DEVELOPMENT = "allow a development attester"
"""The words without which no quote of a development attester is made or accepted."""

HELP = "help"
KEY = "key"
REST = "rest"


def about(help_: str, *, key: str = "", rest: bool = False) -> dict[str, Any]:
    """Return the ``metadata`` of an attrs field: its one help line, for ``compute-bridge config schema``.

    ``key`` is the word in the file where that is not the field's name. A ``rest`` field, a
    ``dict[str, Any]``, takes all keys that no other field names, as they are.
    """
    return {HELP: help_, KEY: key, REST: rest}


def _rest() -> dict[str, Any]:
    return about("the keys of the kind that is named", rest=True)


@frozen
class Choice:
    """One kind that the boot file names: its group, its word, where it stands and its own keys.

    ``group`` is the noun of the hook (``backends``), ``key`` the table's path (``backend[0]``).
    """

    group: str
    kind: str
    key: str
    settings: dict[str, Any] = field(repr=False)

    @property
    def named_at(self) -> str:
        """The path of the key that holds the word (``backend[0].kind``)."""
        return f"{self.key}.{_WORD_OF.get(self.group, 'kind')}"


_WORD_OF = {"quote_sources": "source", "rate_policies": "policy", "routing_policies": "policy"}


@frozen(kw_only=True)
class BridgeSettings:
    """``[bridge]``: the process and its identity."""

    name: str = field(validator=label, metadata=about("what the operator calls this bridge; in its own logs only"))
    state_dir: FilePath = field(metadata=about("folder of the journal, the books and the control socket"))
    root_key: SecretRef = field(metadata=about("the operator root key, from which the provider id follows"))
    custody: Custody = field(
        default=Custody.OPERATOR_HELD, metadata=about("where the boot keys live; the card says it")
    )
    max_leases: int = field(validator=whole(1, 10**6), metadata=about("most leases open at once, over all bands"))
    refresh_s: int = field(
        default=30, validator=whole(1, 3600), metadata=about("seconds between two looks at offers, rates and card")
    )
    drain_s: int = field(
        default=30, validator=whole(0, 86_400), metadata=about("seconds that a shutdown waits for open leases")
    )


@frozen(kw_only=True)
class CoalitionSettings:
    """``[coalition]``: the market to sell in."""

    handshake: FilePath = field(metadata=about("the handshake file that the coalition's operator hands out"))
    fingerprint: Fingerprint = field(
        validator=octets(32), metadata=about("the coalition's fingerprint, 64 hex digits; the file must match it")
    )


@frozen(kw_only=True)
class NetworkSettings:
    """``[network]``: how records travel."""

    kind: str = field(validator=label, metadata=about("memory, sqlite, or a plugin's"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())


@frozen(kw_only=True)
class ShuffleSettings:
    """``[shuffle]``: how envelopes come in and receipts go out."""

    kind: str = field(default="direct", validator=label, metadata=about("direct, which hides nothing, or a plugin's"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())


@frozen(kw_only=True)
class AnchorSettings:
    """A trust anchor besides Intel's own."""

    name: str = field(validator=label, metadata=about("what verifications call it"))
    file: FilePath = field(metadata=about("the root certificate, DER"))
    development: bool = field(default=False, metadata=about("whether it proves nothing about hardware"))


@frozen(kw_only=True)
class AttestationSettings:
    """``[attestation]``: what proves the platform, and whom to believe."""

    source: str = field(
        validator=label, metadata=about("where this bridge's quotes come from: software, or a plugin's")
    )
    development: str = field(default="", metadata=about(f'"{ALLOW_DEVELOPMENT}", in exactly these words, or nothing'))
    anchors: tuple[AnchorSettings, ...] = field(default=(), metadata=about("trust anchors besides Intel's own root"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())

    @development.validator
    def _in_words(self, _attribute: object, value: str) -> None:
        if value not in ("", ALLOW_DEVELOPMENT):
            raise ValueError(f'development must be exactly "{ALLOW_DEVELOPMENT}", or be left out')
        if not value and (self.source == "software" or any(anchor.development for anchor in self.anchors)):
            raise ValueError(
                f'a development attester or anchor proves nothing about hardware: allow it by "{ALLOW_DEVELOPMENT}"'
            )

    @anchors.validator
    def _distinct(self, _attribute: object, value: tuple[AnchorSettings, ...]) -> None:
        _once("anchors", [anchor.name for anchor in value])

    @property
    def allows_development(self) -> bool:
        """Whether the operator has allowed development attestation in words."""
        return self.development == ALLOW_DEVELOPMENT


class BelowCost(StrEnum):
    """What becomes of a rate or a grant that does not cover its cost."""

    REFUSE = "refuse"
    ALLOW = "allow"


class ZeroCost(StrEnum):
    """What becomes of an offer of which nothing costs anything."""

    REFUSE = "refuse"
    ALLOW = "allow"


@frozen(kw_only=True)
class RateSettings:
    """``[rate]``: what to ask."""

    policy: str = field(validator=label, metadata=about("fixed, cost-plus, or another plugin's"))
    below_cost: BelowCost = field(
        default=BelowCost.REFUSE, metadata=about("whether a rate or a grant below cost is refused")
    )
    cost_max_age_s: int = field(
        default=86_400, validator=whole(60, 10**8), metadata=about("seconds after which an observed cost is stale")
    )
    cost_jump_bps: int = field(
        default=10_000,
        validator=whole(1, 10**8),
        metadata=about("most that a part of a cost may rise or fall at once, in hundredths of a percent of the lesser"),
    )
    cost_settle_s: int = field(
        default=900, validator=whole(0, 10**7), metadata=about("seconds that a cost which jumped must stand")
    )
    zero_cost: ZeroCost = field(
        default=ZeroCost.REFUSE, metadata=about("whether an offer is refused of which nothing costs anything")
    )
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())


@frozen(kw_only=True)
class RoutingSettings:
    """``[routing]``: where to place a grant."""

    policy: str = field(validator=label, metadata=about("first-fit, cheapest, availability-first, or another plugin's"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())


@frozen(kw_only=True)
class SettlementSettings:
    """``[settlement]``: how money moves."""

    kind: str = field(validator=label, metadata=about("ledger, or another plugin's"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())


@frozen(kw_only=True)
class LeaseSettings:
    """``[lease]``: how long a lease waits for what."""

    envelope_wait_s: int = field(
        default=60, validator=whole(1, 3600), metadata=about("seconds that a grant waits for its requester's envelope")
    )
    provision_allowance_s: int = field(
        default=600,
        validator=whole(1, 86_400),
        metadata=about("seconds by which a machine's own end lies beyond its lease, so that a slow start costs nobody"),
    )
    meter_every_s: int = field(
        default=60, validator=whole(1, 3600), metadata=about("seconds between two checkpoints of usage")
    )
    sweep_every_s: int = field(
        default=60, validator=whole(1, 3600), metadata=about("seconds between two sweeps for strays and lost machines")
    )
    intent_window_s: int = field(
        default=900,
        validator=whole(1, 86_400),
        metadata=about("seconds for which a stray must have been seen before it may be reaped"),
    )


@frozen(kw_only=True)
class CatalogSettings:
    """``[catalog]``: how often the backends of clouds read what they could sell, and at what cost."""

    refresh_s: int = field(
        default=21_600,
        validator=whole(1, 10**7),
        metadata=about("seconds between two readings of a backend's catalog"),
    )
    fetch_s: int = field(
        default=300, validator=whole(1, 7200), metadata=about("seconds in which a backend must have read its catalog")
    )


@frozen(kw_only=True)
class BackendSettings:
    """``[[backend]]``: one source of machines."""

    name: BackendName = field(validator=label, metadata=about("what the operator calls it; in errors and explanations"))
    kind: str = field(validator=label, metadata=about("baremetal, or another plugin's"))
    settings: dict[str, Any] = field(factory=dict, repr=False, metadata=_rest())


def _by_name(bands: tuple[CapacityBand, ...]) -> tuple[CapacityBand, ...]:
    return tuple(sorted(bands, key=lambda band: band.name))


@frozen(kw_only=True)
class BootFile:
    """Everything in ``bridge.toml``, with flags and environment applied; paths absolute, secrets as references.

    ``backends`` keep the order of the file, ``bands`` stand in ascending order of their names.
    """

    bridge: BridgeSettings
    coalition: CoalitionSettings
    network: NetworkSettings
    shuffle: ShuffleSettings = ShuffleSettings()
    attestation: AttestationSettings
    rate: RateSettings
    routing: RoutingSettings
    settlement: SettlementSettings
    lease: LeaseSettings = LeaseSettings()
    catalog: CatalogSettings = CatalogSettings()
    bands: tuple[CapacityBand, ...] = field(
        converter=_by_name,
        metadata=about("a segment of requirements that this bridge commits to serve", key="band"),
    )
    backends: tuple[BackendSettings, ...] = field(metadata=about("one source of machines", key="backend"))
    plugins: dict[str, str] = field(
        factory=dict,
        metadata=about('pins: a distribution\'s name = "blake3:" and its digest, as plugins check shows it'),
    )

    @bands.validator
    def _bands_once(self, _attribute: object, value: tuple[CapacityBand, ...]) -> None:
        _some("band", [band.name for band in value])

    @backends.validator
    def _backends_once(self, _attribute: object, value: tuple[BackendSettings, ...]) -> None:
        _some("backend", [backend.name for backend in value])

    @plugins.validator
    def _digests(self, _attribute: object, value: dict[str, str]) -> None:
        for distribution, pin in value.items():
            kind, _, digits = pin.partition(":")
            if kind != "blake3" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
                raise ValueError(f'the pin of {distribution} must be "blake3:" and 64 lower-case hex digits')

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every kind that the file names, the backends last and in their order."""
        attestation = self.attestation
        return (
            Choice("networks", self.network.kind, "network", self.network.settings),
            Choice("shuffles", self.shuffle.kind, "shuffle", self.shuffle.settings),
            Choice("quote_sources", attestation.source, "attestation", attestation.settings),
            Choice("rate_policies", self.rate.policy, "rate", self.rate.settings),
            Choice("routing_policies", self.routing.policy, "routing", self.routing.settings),
            Choice("settlements", self.settlement.kind, "settlement", self.settlement.settings),
            *(
                Choice("backends", backend.kind, f"backend[{index}]", backend.settings)
                for index, backend in enumerate(self.backends)
            ),
        )


def _some(word: str, names: list[Any]) -> None:
    if not 1 <= len(names) <= 64:
        raise ValueError(f"there must be 1 to 64 [[{word}]] tables, not {len(names)}")
    _once(f"[[{word}]]", names)


def _once(word: str, names: list[Any]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{word}: the name {twice[0]!r} stands twice; every name must be its own")
