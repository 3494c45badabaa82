"""What a fake project shows of itself: regions, zones, machine types, images, network, prices; all of it to read."""

import json
from typing import Any

from compute_bridge.testing.physics.engine import Physics
from compute_bridge_gcp.testing.checks import BadRequestError
from compute_bridge_gcp.testing.stock import IMAGES, NETWORK, RULES, SHAPES, SKUS, SUBNETWORK, ZONES


class Shelf:
    """The documents; ``shapes``, ``skus``, ``images`` and ``rules`` may be changed by a test."""

    def __init__(self, physics: Physics, base: str) -> None:
        self._physics = physics
        self._base = base
        self.shapes = dict(SHAPES)
        self.skus = list(SKUS)
        self.images = dict(IMAGES)
        self.rules = list(RULES)
        self.extra_quotas: list[dict[str, Any]] = []
        self.down_zones: set[str] = set()

    def regions(self) -> list[dict[str, Any]]:
        """Return the regions; one of their quotas is of a name that no SDK knows."""
        return [self._region(name) for name in ZONES]

    def _region(self, name: str) -> dict[str, Any]:
        quota = self._physics.quota(name)
        quotas = [
            {"metric": "CPUS", "limit": float(quota.limit), "usage": float(quota.used)},
            {"metric": "INSTANCES", "limit": 1000.0, "usage": 0.0},
            {"metric": "QUANTUM_WIDGETS", "limit": 1.0, "usage": 0.0},
        ]
        zones = [f"{self._base}/zones/{zone}" for zone in ZONES[name]]
        return {"name": name, "status": "UP", "zones": zones, "quotas": quotas + self.extra_quotas}

    def zones(self) -> list[dict[str, Any]]:
        """Return the zones."""
        return [
            {
                "name": zone,
                "status": "DOWN" if zone in self.down_zones else "UP",
                "region": f"{self._base}/regions/{region}",
            }
            for region, zones in ZONES.items()
            for zone in zones
        ]

    def machine_types(self) -> list[tuple[str, dict[str, Any]]]:
        """Return each machine type in each zone, with the zone."""
        return [
            (zone, {"name": name, "zone": zone, **shape})
            for zones in ZONES.values()
            for zone in zones
            for name, shape in self.shapes.items()
        ]

    def skus_in(self, currency: str) -> list[dict[str, Any]]:
        """Return the price list in a currency, at a rate of one to one."""
        if currency not in ("USD", "EUR"):
            raise BadRequestError(f"no currency {currency!r}")
        listed: list[dict[str, Any]] = json.loads(json.dumps(self.skus).replace('"USD"', f'"{currency}"'))
        return listed

    def image(self, project: str, *, family: str = "", name: str = "") -> dict[str, Any] | None:
        """Return one image, newest of its family."""
        for found, image in self.images.items():
            if family in ("", image["family"]) and name in ("", found):
                features = [{"type": feature} for feature in image["features"]]
                told = {"name": found, "family": image["family"], "guestOsFeatures": features}
                return told | {key: image[key] for key in ("architecture",) if key in image}
        return None

    def subnetwork(self, region: str, name: str) -> dict[str, Any] | None:
        """Return the one subnetwork that each region has."""
        if region not in ZONES or name != SUBNETWORK:
            return None
        return {"name": name, "network": f"{self._base}/global/networks/{NETWORK}"}

    def firewalls(self) -> list[dict[str, Any]]:
        """Return the firewall rules."""
        return [{"network": f"{self._base}/global/networks/{NETWORK}", **rule} for rule in self.rules]
