"""Whether a project could serve a grant: who we are there, what we may, and what is lacking. Reads only."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from compute_bridge.cloud.calls import Calls
from compute_bridge.model.catalog import Catalog
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.doctor import Finding, Verdict
from compute_bridge.ports.errors import BackendError, CredentialsError
from compute_bridge_gcp.config import GcpConfig, GcpImage, GcpRegion
from compute_bridge_gcp.errors import NOT_FOUND
from compute_bridge_gcp.facts import RegionSeen, Rule
from compute_bridge_gcp.image import faults_of, look_at, postures_of
from compute_bridge_gcp.metering import CPU
from compute_bridge_gcp.policy import Wanted, lets_neighbours_in, meets, permissions, wanted_rules
from compute_bridge_gcp.room import cpu_quota, gpu_quota, quotas_of_each
from compute_bridge_gcp.sdk import Sdk, answer_of

_MAX_SKEW_MS = 60_000
_LENGTH = 500
_METRICS_MS = 600_000
_UNSEEN = "then run the doctor again"

Fetch = Callable[[], Awaitable[Catalog]]


class Doctor:
    """One examination of a project; under another identity than the table's, nothing is asked."""

    def __init__(self, config: GcpConfig, sdk: Sdk, calls: Calls, clock: Clock, fetch: Fetch) -> None:
        self._config = config
        self._sdk = sdk
        self._calls = calls
        self._clock = clock
        self._fetch = fetch

    async def examine(self) -> tuple[Finding, ...]:
        """Return what was found, the identity first."""
        identity = await self._tried("identity", self._identity)
        if any(finding.verdict is not Verdict.OK for finding in identity):
            return tuple(identity)
        findings = [*identity, *await self._tried("permissions", self._permissions)]
        findings += await self._tried("clock", self._skew)
        findings += await self._tried("quotas", self._quotas)
        if self._config.metrics:
            findings += await self._tried("metrics", self._metrics)
        for image in self._config.images:
            findings += await self._image(image)
        findings += await self._tried("firewall", self._networks)
        findings += await self._tried("prices", self._prices)
        return tuple(findings)

    @staticmethod
    async def _tried(check: str, look: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
        try:
            return await look()
        except BackendError as error:
            return [Finding(check, Verdict.UNKNOWN, str(error)[:_LENGTH], _UNSEEN)]

    async def _identity(self) -> list[Finding]:
        found = await self._calls.read("look whose credentials these are", self._sdk.identity)
        if found == self._config.service_account:
            detail = f"the credentials name {found}, as the table does; whether Google takes them, the other lines tell"
            return [Finding("identity", Verdict.OK, detail[:_LENGTH])]
        detail = f"the credentials are of {found or 'no service account'}, pinned is {self._config.service_account}"
        return [Finding("identity", Verdict.FAULT, detail, "give the credentials of the account that is pinned")]

    async def _permissions(self) -> list[Finding]:
        needed = permissions(metrics=self._config.metrics)
        granted = await self._calls.read("ask what is granted", partial(self._sdk.granted, needed))
        mend = f"grant the role that compute-bridge gcp policy{' --metrics' * self._config.metrics} prints"
        return [
            Finding(f"permission {one}", Verdict.OK, "granted")
            if one in granted
            else Finding(f"permission {one}", Verdict.FAULT, "not granted in the project", mend)
            for one in needed
        ]

    async def _metrics(self) -> list[Finding]:
        now = self._clock.utc_ms()
        try:
            look = partial(self._sdk.time_series, CPU, now - _METRICS_MS, now)
            told = await self._calls.read("read metrics", look)
        except CredentialsError as error:
            mend = "enable the API monitoring, and grant what compute-bridge gcp policy --metrics prints"
            return [Finding("metrics", Verdict.FAULT, str(error)[:_LENGTH], mend)]
        return [Finding("metrics", Verdict.OK, f"{len(told)} time series of CPU in ten minutes")]

    async def _skew(self) -> list[Finding]:
        before = self._clock.utc_ms()
        vendor = await self._calls.read("ask the time", self._sdk.vendor_ms)
        # The header has whole seconds, so half of one is added; the truth lies between the two readings.
        skew = (before + self._clock.utc_ms()) // 2 - (vendor + 500)
        detail = f"{abs(skew) / 1000:.1f} s {'ahead of' if skew > 0 else 'behind'} the vendor's"
        if abs(skew) <= _MAX_SKEW_MS:
            return [Finding("clock", Verdict.OK, detail)]
        return [Finding("clock", Verdict.FAULT, detail, "set this machine's clock: tokens and guests go by it")]

    async def _quotas(self) -> list[Finding]:
        seen = {one.name: one for one in await self._calls.read("read quotas", self._sdk.regions)}
        return [self._quota(region, seen.get(region.name)) for region in self._config.regions]

    def _quota(self, region: GcpRegion, seen: RegionSeen | None) -> Finding:
        check = f"quota {region.name}"
        if seen is None or not seen.is_up:
            return Finding(check, Verdict.FAULT, "the project has no such region, or it is down", "sell elsewhere")
        if strays := sorted(set(region.zones) - set(seen.zones)):
            return Finding(check, Verdict.FAULT, f"there is no zone {strays[0]}", "take it out of the table")
        left = {name: seen.left[name] for name in self._counted(seen.left) if name in seen.left}
        detail = ", ".join(f"{name} {number:g} left" for name, number in left.items())[:_LENGTH]
        if spent := [name for name, number in left.items() if number < 1]:
            mend = f"ask the vendor for more of {', '.join(spent)}, or sell what counts against others"
            return Finding(check, Verdict.FAULT, detail, mend[:_LENGTH])
        return Finding(check, Verdict.OK, detail or "no quota is told that machines of the table count against")

    def _counted(self, left: Mapping[str, float]) -> list[str]:
        """Return the quotas that machines of the table count against, by the patterns of their shapes."""
        config = self._config
        kinds = [spot for spot, is_sold in ((False, config.on_demand), (True, config.spot)) if is_sold]
        sold = [(shape, spot) for shape in config.shapes for spot in kinds]
        cpus = {cpu_quota(shape, spot=spot, left=left) for shape, spot in sold}
        gpus = {name for shape, spot in sold if (name := gpu_quota(shape, spot=spot))}
        return sorted({*cpus, *gpus, *quotas_of_each(has_addresses=config.public_address)})

    async def _image(self, image: GcpImage) -> list[Finding]:
        check = f"image {image.name}"
        try:
            seen = await look_at(image, self._calls, self._sdk)
        except BackendError as error:
            return [_unread(check, image.source, error, "name an image that is there")]
        features = ", ".join(sorted(seen.features)) or "no features"
        detail = f"{image.source} is for {seen.architecture} and has {features}"[:_LENGTH]
        if faults := [*faults_of(seen, self._config, postures_of(image, self._config))]:
            return [Finding(check, Verdict.FAULT, detail, f"it {'; it '.join(faults)}")]
        return [Finding(check, Verdict.OK, detail)]

    async def _networks(self) -> list[Finding]:
        findings, networks = [], set()
        for region in self._config.regions:
            look = partial(self._sdk.subnetwork_network, region.name, region.subnetwork)
            check = f"subnetwork {region.subnetwork} {region.name}"
            try:
                network = await self._calls.read(f"look at subnetwork {region.subnetwork}", look)
            except BackendError as error:
                findings.append(_unread(check, region.subnetwork, error, "name a subnetwork that is there"))
            else:
                networks.add(network)
                findings.append(Finding(check, Verdict.OK, f"part of network {network}"))
        rules = await self._calls.read("read firewall rules", self._sdk.rules)
        wanted = wanted_rules(self._config.networks, ssh_port=self._config.ssh_port)
        for network in sorted(networks):
            here = [rule for rule in rules if rule.network == network]
            findings += [_rule(network, one, here) for one in wanted]
            findings.append(_internal(network, here, wanted))
        return findings

    async def _prices(self) -> list[Finding]:
        catalog = await self._fetch()
        if catalog.rows:
            return [Finding("prices", Verdict.OK, f"{len(catalog.rows)} shapes with a price")]
        mend = "look at shapes, at architecture, and at address_cost; what has no price is not sold"
        return [Finding("prices", Verdict.FAULT, "no shape on sale has a price", mend)]


def _unread(check: str, what: str, error: BackendError, mend: str) -> Finding:
    """Return a fault for what is not there; of what could not be read for another reason nothing is known."""
    answer = answer_of(error.__cause__) if isinstance(error.__cause__, Exception) else None
    if answer is not None and answer.code in NOT_FOUND:
        return Finding(check, Verdict.FAULT, f"{what} is not there"[:_LENGTH], mend)
    return Finding(check, Verdict.UNKNOWN, str(error)[:_LENGTH], _UNSEEN)


def _rule(network: str, wanted: Wanted, rules: list[Rule]) -> Finding:
    check = f"firewall {network} {wanted.name}"
    for rule in rules:
        if meets(rule, wanted):
            return Finding(check, Verdict.OK, f"{rule.name}: {wanted.why}")
    return Finding(
        check, Verdict.FAULT, f"no rule sees to it that {wanted.why}", "run what compute-bridge gcp policy prints"
    )


def _internal(network: str, rules: list[Rule], wanted: tuple[Wanted, ...]) -> Finding:
    check = f"firewall {network} internal"
    walls = [one for one in wanted if one.is_ingress and not one.allows]
    denied = [rule.priority for rule in rules if any(meets(rule, wall) for wall in walls)]
    before = min(denied, default=walls[0].priority)
    if strays := [rule.name for rule in rules if lets_neighbours_in(rule, denied_at=before)]:
        mend = f"take the rule away, or give it a priority above {before} and guests' tags as its targets"
        return Finding(check, Verdict.FAULT, f"{strays[0]} lets guests reach each other", mend)
    return Finding(check, Verdict.OK, "no rule lets guests reach each other")
