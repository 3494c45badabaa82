"""What ends instances when no bridge does: said at the start, and in ``status``."""

import logging

import pytest

from compute_bridge.host.dead_mans_switch import declared_switches
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.plugin_call import BackendFaultError, PluginResultError
from compute_bridge.model.ids import BackendName
from compute_bridge.model.units import Milliseconds
from compute_bridge.ports.backend import Backend, DeadMansSwitch, SupportsDeadMansSwitch
from compute_bridge.testing.clock import VirtualClock


class Plain(Backend):
    """A backend that sells nothing, and ends nothing by itself."""

    def __init__(self, name):
        self._name = BackendName(name)

    @property
    def name(self):
        return self._name

    def capabilities(self):
        return ()

    def can_satisfy(self, needs):
        return False

    async def offers(self):
        return ()

    async def provision(self, order):
        raise NotImplementedError

    async def find(self, token):
        return None

    async def list_owned(self):
        return ()

    async def watch_until_exit(self, instance):
        raise NotImplementedError

    async def usage(self, instance):
        raise NotImplementedError

    async def terminate(self, instance):
        raise NotImplementedError


class Switched(Plain, SupportsDeadMansSwitch):
    """The same, with whatever a test lets it declare."""

    def __init__(self, name, declared):
        super().__init__(name)
        self._declared = declared

    @property
    def dead_mans_switch(self):
        if isinstance(self._declared, Exception):
            raise self._declared
        return self._declared

    @property
    def dead_mans_grace_ms(self):
        return Milliseconds(0)


class Stopping(Switched):
    """One whose switch ends no bill, or of which a test lets it say so otherwise."""

    def __init__(self, name, declared, leaves=True):
        super().__init__(name, declared)
        self._leaves = leaves

    @property
    def dead_mans_leaves_bill(self):
        return self._leaves


def test_a_backend_without_a_switch_is_warned_of_by_name(caplog):
    fleet = Fleet([Plain("attic"), Switched("rack", DeadMansSwitch.CLOUD_SIDE)], VirtualClock(), currency="EUR")

    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "backend attic has no dead man's switch" in warning.getMessage()
    assert "until somebody ends them by hand" in warning.getMessage()
    assert {"attic": "none", "rack": "cloud-side"} == fleet.switches


def test_a_timer_in_the_guest_is_told_for_what_it_is_worth(caplog):
    caplog.set_level(logging.INFO)
    switches = declared_switches([Switched("cloud", DeadMansSwitch.GUEST_TIMER)])

    assert {"cloud": "guest-timer"} == switches
    assert "which a requester who is root there can stop" in caplog.text


def test_a_switch_that_ends_no_bill_is_warned_of_by_name(caplog):
    declared_switches([Stopping("west", DeadMansSwitch.GUEST_TIMER), Switched("rack", DeadMansSwitch.CLOUD_SIDE)])

    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "backend west only stops an instance by its dead man's switch" in warning.getMessage()
    assert "it is billed until somebody deletes it" in warning.getMessage()


@pytest.mark.parametrize("leaves", ["no", 1, None, lambda: True])
def test_a_bill_that_is_told_neither_way_is_refused(leaves):
    with pytest.raises(PluginResultError, match="backend west: dead_mans_leaves_bill is "):
        declared_switches([Stopping("west", DeadMansSwitch.GUEST_TIMER, leaves)])


def test_a_switch_that_the_port_does_not_know_is_refused():
    with pytest.raises(PluginResultError, match="backend rack: dead_mans_switch is 'somehow', and must be one of"):
        declared_switches([Switched("rack", "somehow")])


def test_a_switch_that_raises_is_a_fault_of_the_backend():
    with pytest.raises(BackendFaultError, match="backend rack: dead_mans_switch raised ValueError"):
        declared_switches([Switched("rack", ValueError("secret"))])
