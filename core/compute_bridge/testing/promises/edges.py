"""Requirements on and around the edges of what a backend declares.

Not drawn from all requirements: those hardly ever come near what one backend declares, and so test nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import evolve
from hypothesis import strategies as st

from compute_bridge.model.resources import (
    MAX_DURATION_MS,
    Capability,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    TdxNeed,
)

_ELSEWHERE = Region("nowhere-1")
_CEILINGS = {"cpu_millis": 10**7, "mem_mib": 2**30, "disk_gib": 2**24, "gpus": 1024}
_FLOORS = {"cpu_millis": 1, "mem_mib": 1, "disk_gib": 0, "gpus": 0}


def corner(capability: Capability) -> Requirements:
    """Return the most that ``capability`` serves."""
    return Requirements(
        resources=capability.ceiling,
        duration_ms=capability.max_duration_ms,
        tdx=TdxNeed.REQUIRED if capability.posture is Posture.TDX else TdxNeed.PREFERRED,
        network=capability.networks[0],
        regions=(capability.region,),
    )


def steps(capabilities: tuple[Capability, ...]) -> Iterator[Requirements]:
    """Yield every corner, and everything that is one step away from it in one direction."""
    for capability in capabilities:
        yield corner(capability)
        for name, values in _directions(capability, capabilities).items():
            for value in values:
                yield _moved(corner(capability), {name: value})


@st.composite
def walks(draw: st.DrawFn, capabilities: tuple[Capability, ...]) -> Requirements:
    """Draw a corner and take up to four steps from it, each in another direction."""
    capability = draw(st.sampled_from(capabilities))
    directions = _directions(capability, capabilities)
    names = draw(st.sets(st.sampled_from(sorted(directions)), max_size=4))
    return _moved(corner(capability), {name: draw(st.sampled_from(directions[name])) for name in sorted(names)})


def _directions(capability: Capability, all_: tuple[Capability, ...]) -> dict[str, list[Any]]:
    regions = sorted({other.region for other in all_} - {_ELSEWHERE})
    sizes: dict[str, list[Any]] = {
        name: _around(getattr(capability.ceiling, name), low, _CEILINGS[name]) for name, low in _FLOORS.items()
    }
    return sizes | {
        "duration_ms": _around(capability.max_duration_ms, 1, MAX_DURATION_MS),
        "tdx": list(TdxNeed),
        "network": list(NetworkPolicy),
        "regions": [(), (_ELSEWHERE,), *_region_choices(regions)],
    }


def _region_choices(regions: list[Region]) -> Iterable[tuple[Region, ...]]:
    yield from ((region,) for region in regions)
    yield tuple(regions)
    yield tuple(sorted([regions[0], _ELSEWHERE]))


def _around(edge: int, low: int, high: int) -> list[int]:
    return sorted({low, max(low, edge - 1), edge, min(high, edge + 1), high})


def _moved(needs: Requirements, changes: Mapping[str, Any]) -> Requirements:
    sizes = {name: value for name, value in changes.items() if name in _FLOORS}
    resources: Resources = evolve(needs.resources, **sizes)
    rest = {name: value for name, value in changes.items() if name not in _FLOORS}
    return evolve(needs, resources=resources, **rest)
