"""Capabilities and bands: what lies within, to the unit."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.ids import BandName
from compute_bridge.model.resources import (
    MAX_DURATION_MS,
    Capability,
    CapacityBand,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    TdxNeed,
)
from compute_bridge.model.units import Milliseconds

FLOOR, CEILING = Resources(1000, 1000, 10, 1), Resources(4000, 4000, 40, 4)
BAND = CapacityBand(BandName("b"), FLOOR, CEILING, 1, Milliseconds(1000), Milliseconds(2000))
CAPABILITY = Capability(Region("eu-1"), Posture.NONE, CEILING, (NetworkPolicy.ISOLATED,), Milliseconds(2000))
NAMES = ("cpu_millis", "mem_mib", "disk_gib", "gpus")


def needs(resources: Resources, duration: int = 1500) -> Requirements:
    return Requirements(resources, Milliseconds(duration))


@pytest.mark.parametrize("corner", [FLOOR, CEILING])
@pytest.mark.parametrize("duration", [1000, 2000])
def test_a_band_holds_its_own_corners(corner, duration):
    assert BAND.covers(needs(corner, duration))


@pytest.mark.parametrize("name", NAMES)
def test_a_band_ends_one_unit_beyond_its_corners(name):
    assert not BAND.covers(needs(evolve(FLOOR, **{name: getattr(FLOOR, name) - 1})))
    assert not BAND.covers(needs(evolve(CEILING, **{name: getattr(CEILING, name) + 1})))


@pytest.mark.parametrize("duration", [999, 2001])
def test_a_band_ends_one_millisecond_beyond_its_durations(duration):
    assert not BAND.covers(needs(FLOOR, duration))


@pytest.mark.parametrize("name", NAMES)
def test_a_capability_ends_one_unit_beyond_its_ceiling(name):
    assert CAPABILITY.serves(needs(CEILING, 2000))
    assert not CAPABILITY.serves(needs(evolve(CEILING, **{name: getattr(CEILING, name) + 1})))


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_ms": Milliseconds(2001)},
        {"network": NetworkPolicy.EGRESS},
        {"regions": (Region("us-1"),)},
        {"tdx": TdxNeed.REQUIRED},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_capability_serves_nothing_that_it_did_not_declare(changes):
    assert not CAPABILITY.serves(evolve(needs(FLOOR), **changes))


@pytest.mark.parametrize("posture", Posture)
def test_only_tdx_meets_a_tdx_requirement(posture):
    assert (posture is Posture.TDX) == evolve(needs(FLOOR), tdx=TdxNeed.REQUIRED).accepts_posture(posture)
    assert evolve(needs(FLOOR), tdx=TdxNeed.PREFERRED).accepts_posture(posture)


def test_no_region_named_means_any():
    assert needs(FLOOR).accepts_region(Region("anywhere"))


_RESOURCES = st.builds(Resources, st.integers(1, 5), st.integers(1, 5), st.integers(0, 5), st.integers(0, 5))


@given(_RESOURCES, _RESOURCES, _RESOURCES)
def test_fitting_in_is_an_order(one, two, three):
    assert one.fits_in(one)
    assert not (one.fits_in(two) and two.fits_in(one)) or one == two
    assert not (one.fits_in(two) and two.fits_in(three)) or one.fits_in(three)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: CapacityBand(BandName("b"), CEILING, FLOOR, 1), "floor exceeds ceiling"),
        (lambda: evolve(BAND, min_duration_ms=Milliseconds(2001)), "min_duration_ms"),
        (lambda: evolve(BAND, slots=0), "slots"),
        (lambda: evolve(BAND, name=BandName("B")), "label"),
        (lambda: evolve(CAPABILITY, networks=()), "networks"),
        (lambda: evolve(CAPABILITY, networks=(NetworkPolicy.ISOLATED, NetworkPolicy.EGRESS)), "ascending"),
        (lambda: evolve(needs(FLOOR), regions=(Region("b"), Region("a"))), "ascending"),
        (lambda: evolve(needs(FLOOR), regions=(Region("a"), Region("a"))), "ascending"),
        (lambda: needs(FLOOR, 0), "duration_ms"),
        (lambda: needs(FLOOR, MAX_DURATION_MS + 1), "duration_ms"),
        (lambda: Resources(0, 1), "cpu_millis"),
        (lambda: Resources(True, 1), "cpu_millis"),
        (lambda: Resources(1, 1, -1), "disk_gib"),
    ],
)
def test_a_value_is_checked_at_birth(make, what):
    with pytest.raises(ValueError, match=what):
        make()
