"""The kind ``stocked``: whatever stands in its script is what the cloud says, at each call anew."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from attrs import evolve, field, frozen

from compute_bridge.api import Backend, BackendContext, BackendKind, hookimpl
from compute_bridge.model.boot import SecretRef, about
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Region, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.ports.doctor import Finding, SupportsDoctor, Verdict
from compute_bridge.ports.errors import CredentialsError, UnavailableError

COMPUTE_BRIDGE_API = 1


@frozen(kw_only=True)
class StockedConfig:
    """``[[backend]]`` with ``kind = "stocked"``."""

    script: Path = field(metadata=about("the JSON file that says what the cloud says"))
    is_plain: bool = field(default=False, metadata=about("whether it has no power at all"))
    key: SecretRef | None = field(default=None, metadata=about("a secret that is read as it opens"))


class Plain(Backend):
    """A backend without a power, and without machines."""

    def __init__(self, context: BackendContext, script: dict[str, Any]) -> None:
        self._context = context
        self._script = script

    @property
    def name(self):
        return self._context.name

    def capabilities(self):
        return ()

    def can_satisfy(self, needs):
        return False

    async def offers(self):
        return ()

    async def provision(self, order):
        raise UnavailableError("nothing is made here")

    async def find(self, token):
        return None

    async def list_owned(self):
        return ()

    async def watch_until_exit(self, instance):
        await anyio.sleep_forever()

    async def usage(self, instance):
        raise UnavailableError("nothing runs here")

    async def terminate(self, instance):
        return


class Stocked(Plain, SupportsCatalog, SupportsDoctor):
    """One with the powers that a cloud's backend has."""

    async def fetch_catalog(self):
        return _answer(self._script.get("catalog"), self._catalog())

    def use_catalog(self, catalog):
        return

    async def examine(self):
        findings = tuple(Finding(one, Verdict(verdict), *more) for one, verdict, *more in self._script["findings"])
        return _answer(self._script.get("examine"), findings)

    def _catalog(self) -> Catalog:
        now = UtcMs(self._context.clock.utc_ms() - 1000 * self._script.get("age_s", 0))
        rows = [_row(*one, now=now) for one in self._script["rows"]]
        return Catalog(self.name, "stocked", now, tuple(sorted(rows, key=lambda row: row.key)))


def _row(shape: str, machine: int, currency: str = "EUR", *, now: UtcMs) -> CatalogRow:
    cost = CostBasis(currency, UnitNanos(machine=NanosPerHour(machine)), now, "script")
    size = Resources(2000, 8192, 100)
    name, _, spot = shape.partition("/")
    return CatalogRow(Region("eu-1"), Zone("eu-1a"), name, size, cost, spot=spot == "spot")


def _answer(word: str | None, good: Any) -> Any:
    match word:
        case "foreign":
            raise RuntimeError("s3cret of the vendor")
        case "unavailable":
            raise UnavailableError("backend frankfurt: the price list does not answer; try again")
        case "nothing":
            return None
        case "stranger":
            return evolve(good, backend=BackendName("dublin"))
    return good


@asynccontextmanager
async def open_stocked(context: BackendContext, config: StockedConfig) -> AsyncIterator[Backend]:
    """Open it unless the script says otherwise."""
    script = json.loads(await anyio.Path(config.script).read_text())
    if config.key is not None:
        context.read_secret(config.key)
    if script.get("open") == "credentials":
        raise CredentialsError("backend frankfurt: AuthFailure; check the key in its table")
    _answer(script.get("open"), None)
    yield Plain(context, script) if config.is_plain else Stocked(context, script)


@hookimpl
def register_backends() -> list[BackendKind]:
    """Return the one kind."""
    return [BackendKind("stocked", StockedConfig, open_stocked)]
