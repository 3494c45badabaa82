"""Each misbehaving plugin stops the boot with its distribution, its entry point, and what is wrong."""

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from compute_bridge.host.plugins import load
from compute_bridge.ports.errors import PluginError
from compute_bridge.testing.installed import lay_out

HERE = Path(__file__).parent

SAYS = {
    "hostile-absent": "No module named 'compute_bridge_hostile.absent'",
    "hostile-asynchronous": "is asynchronous",
    "hostile-crashing": "RuntimeError: this plugin is broken",
    "hostile-doubled": "registered twice",
    "hostile-exiting": "SystemExit: this plugin needs a newer Python",
    "hostile-forgetful": "says no plugin API",
    "hostile-future": "is written for plugin API 2",
    "hostile-mixed": "returned a list with a str in it",
    "hostile-needy": "No module named 'compute_bridge_hostile_sdk'",
    "hostile-misspelt": "did you mean register_backends?",
    "hostile-nothing": "returned NoneType, not a list",
    "hostile-past": "is written for plugin API 0",
    "hostile-raising": "KeyError: 'HOSTILE_API_KEY'",
    "hostile-renamed": "registers no kind 'hostile-renamed' but hostile-other",
    "hostile-single": "returned BackendKind, not a list",
    "hostile-smuggling": "registers memory, which none of its entry points promises",
    "hostile-tableless": "is no attrs class",
    "hostile-timeless": "clock",
    "hostile-twin": "compute-bridge-hostile-twin",
    "hostile-undecorated": "decorated with @hookimpl",
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    for project in (HERE, HERE / "twin"):
        lay_out(project, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("compute_bridge_hostile")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize(("kind", "says"), SAYS.items(), ids=list(SAYS))
def test_a_misbehaving_plugin_stops_the_boot(installed, kind, says):
    with pytest.raises(PluginError) as caught:
        load([("backends", kind)], builtins=[])

    assert "compute-bridge-hostile 0.1.0" in str(caught.value)
    assert f"entry point {kind} = compute_bridge_hostile." in str(caught.value)
    assert says in str(caught.value)


def test_every_misbehaviour_is_tried(installed):
    kinds = {entry.name for entry in entry_points(group="compute_bridge") if entry.name.startswith("hostile-")}

    assert kinds == set(SAYS)


def test_what_is_not_named_is_not_imported(installed):
    with pytest.raises(PluginError):
        load([("backends", "hostile-misspelt")], builtins=[])

    assert "compute_bridge_hostile.misspelt" in sys.modules
    assert "compute_bridge_hostile.crashing" not in sys.modules
