"""Plugins: found by entry point, measured before import, fenced, pinned, and told apart from their faults."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from compute_bridge import builtin
from compute_bridge.host.distribution import measure, promises
from compute_bridge.host.plugin_check import check_plugins
from compute_bridge.host.plugins import OURS, Plugins, load
from compute_bridge.host.registration import GROUPS
from compute_bridge.ports import hookspecs
from compute_bridge.ports.errors import PluginError

GOOD = """
from attrs import frozen
from compute_bridge.api import RatePolicyKind, hookimpl

COMPUTE_BRIDGE_API = 1

@frozen
class Config:
    margin: int = 0

@hookimpl
def register_rate_policies():
    return [RatePolicyKind("tidal", Config, lambda config: None)]
"""
WANTED = [("rate_policies", "tidal")]

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay a distribution out as an installer would, from the text of its hooks module."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def lay_out(
        name: str = "tidal-rates",
        hooks: str = GOOD,
        *,
        kinds: tuple[str, ...] = ("tidal",),
        target: str = "",
        version: str = "1.0",
        editable: bool = False,
    ) -> Path:
        package = site / f"test_plugin_{name.replace('-', '_')}"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "hooks.py").write_text(dedent(hooks))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = "\n".join(f"{kind} = {target or f'{package.name}.hooks'}" for kind in kinds)
        (info / "entry_points.txt").write_text(f"[compute_bridge]\n{lines}\n")
        files = [f"{package.name}/__init__.py", f"{package.name}/hooks.py", f"{info.name}/METADATA"]
        recorded = [f"{info.name}/RECORD"] if editable else [*files, f"{info.name}/RECORD", "../../bin/tool"]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in recorded))
        if editable:
            (info / "direct_url.json").write_text('{"dir_info": {"editable": true}, "url": "file:///somewhere"}')
        return package

    yield lay_out
    for module in [module for module in sys.modules if module.startswith("test_plugin_")]:
        del sys.modules[module]
    importlib.invalidate_caches()


def find(wanted: list[tuple[str, str]] | None = None, **given: object) -> Plugins:
    return load(wanted or WANTED, builtins=(builtin,), **given)  # type: ignore[arg-type]


def refusal(wanted: list[tuple[str, str]] | None = None, **given: object) -> str:
    with pytest.raises(PluginError) as caught:
        find(wanted, **given)
    return str(caught.value)


# --- finding --------------------------------------------------------------------------------------


def test_the_kind_that_is_named_is_found(install: Install):
    install()

    assert find().kind("rate_policies", "tidal").config().margin == 0


def test_only_what_is_named_is_imported(install: Install):
    install()
    install("other-rates", "raise RuntimeError('imported')", kinds=("other",))

    find()

    assert "test_plugin_other_rates" not in sys.modules


def test_a_plugin_is_asked_once_however_many_of_its_kinds_are_named(install: Install):
    hooks = GOOD.replace(
        "return [Rate", 'global calls; calls += 1\n    return [RatePolicyKind("ebb", Config, print), Rate'
    )
    install(hooks=hooks.replace("COMPUTE_BRIDGE_API", "calls = 0\nCOMPUTE_BRIDGE_API"), kinds=("ebb", "tidal"))

    find([("rate_policies", "ebb"), ("rate_policies", "tidal")])

    assert sys.modules["test_plugin_tidal_rates.hooks"].calls == 1


@pytest.mark.parametrize("kind", sorted(OURS))
def test_a_kind_of_ours_that_is_missing_says_what_to_install(kind: str):
    assert f"pip install {OURS[kind]}" in refusal([("backends", kind)], installed=())


def test_a_strangers_kind_that_is_missing_says_what_to_install():
    assert "kind 'hetzner' of backends is not installed; pip install compute-bridge-hetzner" in refusal(
        [("backends", "hetzner")], installed=()
    )


def test_a_misspelt_kind_gets_the_nearest_one(install: Install):
    install()

    assert "did you mean 'tidal'?" in refusal([("rate_policies", "tidall")])


def test_every_missing_kind_is_told_at_once():
    told = refusal([("backends", "hetzner"), ("networks", "nats")], installed=())

    assert "compute-bridge-hetzner" in told
    assert "compute-bridge-nats" in told


def test_two_distributions_with_one_kind_are_both_named_and_neither_imported(install: Install):
    install()
    install("copied-rates")

    told = refusal()

    assert "distribution tidal-rates 1.0" in told
    assert "distribution copied-rates 1.0" in told
    assert "test_plugin_tidal_rates" not in sys.modules


def test_a_kind_of_another_group_is_named_with_its_group(install: Install):
    install()

    told = refusal([("backends", "tidal")])

    assert "distribution tidal-rates 1.0, entry point tidal" in told
    assert "registers it among rate_policies" in told


# --- the kinds in the box -------------------------------------------------------------------------


def test_the_kinds_in_the_box_register_by_the_same_hooks():
    found = {(one.group, one.kind) for one in find([("networks", "memory")], installed=()).registered}

    assert found == {
        ("networks", "memory"),
        ("networks", "sqlite"),
        ("shuffles", "direct"),
        ("quote_sources", "software"),
    }


def test_what_is_installed_cannot_take_the_place_of_a_kind_in_the_box(install: Install):
    install(kinds=("sqlite",))

    plugins = find([("networks", "sqlite")])

    assert plugins.kind("networks", "sqlite").config is builtin.SqliteNetworkConfig
    assert "test_plugin_tidal_rates" not in sys.modules


def test_a_plugin_may_not_register_a_kind_of_the_box_besides_its_own(install: Install):
    hooks = GOOD + dedent("""
        from compute_bridge.api import NetworkKind

        @hookimpl
        def register_networks():
            return [NetworkKind("sqlite", Config, print)]
        """)
    install(hooks=hooks, kinds=("tidal", "sqlite"))

    told = refusal()

    assert "'sqlite' of networks is registered twice: built in" in told
    assert "distribution tidal-rates" in told


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hooks", "says"),
    [
        (GOOD.replace("register_rate_policies", "register_rate_policy"), "did you mean register_rate_policies?"),
        (GOOD.replace("policies():", "policies(extra):"), "extra"),
        (GOOD.replace("@hookimpl\n", ""), "registers no kind 'tidal' but nothing"),
        (GOOD.replace("= 1", "= 2"), "is written for plugin API 2, this compute-bridge has 1; upgrade compute-bridge"),
        (GOOD.replace("= 1", "= 0"), "upgrade the plugin"),
        (GOOD.replace("= 1", '= "1"'), "is written for plugin API '1'"),
        (GOOD.replace("COMPUTE_BRIDGE_API", "API"), "write COMPUTE_BRIDGE_API = 1"),
        (
            GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)").replace("return [", "yield\n    return ["),
            "is a wrapper",
        ),
        (GOOD.replace("def reg", "async def reg"), "is asynchronous"),
        (GOOD.replace("return [", "yield ["), "returned generator, not a list"),
        (GOOD.replace("return [", "return 1 or ["), "returned int, not a list"),
        (GOOD.replace("return [", "return None and ["), "returned NoneType, not a list"),
        (GOOD.replace("return [", "return ['x'] or ["), "returned a list with a str in it; return only RatePolicyKind"),
        (GOOD.replace("return [", "raise KeyError('x')\n    return ["), "register_rate_policies() raised KeyError"),
        (GOOD.replace("Config, lambda", "dict, lambda"), "is no attrs class"),
        (GOOD.replace("lambda config: None", "None"), "cannot be called"),
        (GOOD.replace('"tidal"', '"ebb"'), "registers no kind 'tidal' but ebb"),
        (GOOD.replace('"tidal"', '"No Label"'), "is not a label"),
        ("import test_plugin_nowhere", "does not import: ModuleNotFoundError: No module named 'test_plugin_nowhere'"),
        ("raise SystemExit(1)", "does not import: SystemExit"),
        ("def (", "does not import: SyntaxError"),
        ("1 / 0", "does not import: ZeroDivisionError"),
    ],
)
def test_a_misbehaving_plugin_is_named_with_its_entry_point_and_a_mend(install: Install, hooks: str, says: str):
    install(hooks=hooks)

    told = refusal()

    assert "distribution tidal-rates 1.0, entry point tidal = test_plugin_tidal_rates.hooks" in told
    assert says in told


@pytest.mark.parametrize("target", ["no_such_module_here", "not a module", "test_plugin_tidal_rates.hooks:nothing"])
def test_an_entry_point_that_leads_nowhere_is_named(install: Install, target: str):
    install(target=target)

    assert f"entry point tidal = {target}" in refusal()


def test_a_kind_that_no_entry_point_promises_is_refused(install: Install):
    install(hooks=GOOD.replace("return [", 'return [RatePolicyKind("smuggled", Config, print), '))

    assert "registers smuggled, which none of its entry points promises" in refusal()


# --- measuring and pinning ------------------------------------------------------------------------


def promise_of(kind: str = "tidal"):
    return next(promise for promise in promises() if promise.kind == kind)


@pytest.mark.parametrize("editable", [False, True])
def test_a_changed_byte_changes_the_measurement(install: Install, editable: bool):
    package = install(editable=editable)
    before = measure(promise_of())

    with (package / "hooks.py").open("a") as file:
        file.write("#")

    assert before.digest != measure(promise_of()).digest
    assert before.editable is editable


def test_what_an_installer_or_the_interpreter_writes_is_not_measured(install: Install):
    package = install(editable=True)
    before = measure(promise_of())
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "hooks.cpython-311.pyc").write_bytes(b"x")

    assert before == measure(promise_of())
    assert before.files == 2


def test_a_recorded_file_that_is_gone_is_named(install: Install):
    package = install()
    (package / "__init__.py").unlink()

    assert "__init__.py: No such file" in refusal()


def test_a_distribution_without_files_is_refused(install: Install):
    install()
    info = next(path for path in Path(sys.path[0]).iterdir() if path.name.endswith(".dist-info"))
    (info / "RECORD").write_text("")

    assert "no file of it is on the disk" in refusal()


def test_a_damaged_direct_url_is_named(install: Install):
    install(editable=True)
    info = next(path for path in Path(sys.path[0]).iterdir() if path.name.endswith(".dist-info"))
    (info / "direct_url.json").write_text("{")

    assert "direct_url.json is damaged" in refusal()


def test_a_distribution_as_pinned_is_loaded(install: Install):
    install()
    pin = measure(promise_of()).pin

    assert [one.pin for one in find(pins={"tidal-rates": pin}).measurements] == [pin]


def test_a_distribution_that_is_not_as_pinned_is_not_imported(install: Install):
    install()

    told = refusal(pins={"tidal-rates": "blake3:" + "00" * 32})

    assert "distribution tidal-rates 1.0 is not as [plugins] pins it" in told
    assert measure(promise_of()).pin in told
    assert "test_plugin_tidal_rates" not in sys.modules


def test_a_pin_of_what_is_not_installed_is_a_fault(install: Install):
    install()

    assert "did you mean tidal-rates?" in refusal(pins={"tidal-rate": "blake3:" + "00" * 32})


def test_the_host_cannot_be_pinned(install: Install):
    install()

    assert "is the host and no plugin" in refusal(pins={"compute-bridge": "blake3:" + "00" * 32})


def test_what_was_measured_is_known_by_distribution(install: Install):
    install()

    assert find().measured == {"tidal-rates": measure(promise_of()).digest}


# --- trace and check ------------------------------------------------------------------------------


def test_every_hook_call_can_be_traced(install: Install, caplog: pytest.LogCaptureFixture):
    install()
    with caplog.at_level("DEBUG", "compute_bridge.host.registration"):
        find()

    assert "hook register_rate_policies() of distribution tidal-rates" in caplog.text
    assert "hook register_networks() of built in" in caplog.text


def test_a_check_reports_every_plugin_and_goes_on_after_a_fault(install: Install):
    install()
    install("broken-rates", "1 / 0", kinds=("broken",))
    install("odd-rates", GOOD.replace("margin: int", "margin: complex").replace("tidal", "odd"), kinds=("odd",))

    def readable(cls: type) -> None:
        if "complex" in str(cls.__annotations__):
            raise TypeError("no file can hold it")

    installed = [promise for promise in promises() if promise.target.startswith("test_plugin_")]
    found = {
        one.distribution: one
        for one in check_plugins(version="9", builtins=(builtin,), readable=readable, installed=installed)
    }

    assert found["compute-bridge"].version == "9"
    assert found["tidal-rates"].kinds == (("rate_policies", "tidal"),)
    assert not found["tidal-rates"].fault
    assert "ZeroDivisionError" in found["broken-rates"].fault
    assert found["broken-rates"].pin.startswith("blake3:")
    assert "no file can hold it" in found["odd-rates"].fault


def test_a_check_finds_a_kind_that_two_distributions_register(install: Install):
    install()
    install("copied-rates")
    installed = [promise for promise in promises() if promise.target.startswith("test_plugin_")]

    faults = [
        one.fault for one in check_plugins(version="9", builtins=(), readable=lambda _cls: None, installed=installed)
    ]

    assert len([fault for fault in faults if "is registered twice" in fault]) == 1


def test_every_hook_has_a_group_and_every_group_a_hook():
    hooks = {name.removeprefix("register_") for name in vars(hookspecs) if name.startswith("register_")}

    assert hooks == set(GROUPS)
