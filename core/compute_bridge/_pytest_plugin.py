"""Guards test runs: components of the machine, time limits, blocking calls, the kit's own tests.

pytest imports this module at every start, so it imports nothing heavy, and nothing of ours.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REQUIRE = "COMPUTE_BRIDGE_REQUIRE_COMPONENTS"
GUARDED = "compute_bridge_guarded"
KIT = "compute_bridge.testing"

Find = Callable[[str], str | None]

_SYSTEM_PATH = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))

_PROGRAMS = {
    "openssh-client": ("ssh", "ssh-keygen"),
    "podman": ("podman", "runc"),
    "sshd": ("sshd", "ssh-keygen"),
}

_LIMITS_S = {"needs": 180, "cloud": 900, "soak": 7200}


# --- components -------------------------------------------------------------------------------


def find_program(name: str) -> str | None:
    """Return the path of a program, looked for also where a plain user's PATH does not reach."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


def missing(component: str, *, find: Find = find_program) -> str | None:
    """Return why ``component`` cannot be used here, or ``None`` where it can.

    A component is one of ``sshd``, ``openssh-client``, ``podman``, ``systemd-run`` and ``root``, which is to be root;
    any other name is that of a program.
    """
    if component == "podman" and os.geteuid() != 0:
        return "podman must run rootful: run the tests as root"
    if component == "root":
        return None if os.geteuid() == 0 else "this is a plain user: run the tests as root"
    if component == "systemd-run" and not Path("/run/systemd/system").is_dir():
        return "systemd is not PID 1"
    absent = [program for program in _PROGRAMS.get(component, (component,)) if find(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or where components are required fail, a test that needs what this machine lacks."""
    for mark in item.iter_markers("needs"):
        for component in mark.args:
            reason = missing(component)
            if reason is None:
                continue
            if os.environ.get(REQUIRE) == "1":
                pytest.fail(f"needs {component}: {reason}; install it, or unset {REQUIRE}", pytrace=False)
            pytest.skip(f"needs {component}: {reason}")


# --- configuration ----------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the one setting: which packages may not block the event loop."""
    parser.addini(GUARDED, "import packages whose blocking calls on the event loop fail a test", "args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks, which ``--strict-markers`` would otherwise refuse."""
    config.addinivalue_line("markers", "cloud: needs real credentials; off by default")
    config.addinivalue_line("markers", "needs(*components): skips, naming the component, where the machine lacks one")
    config.addinivalue_line("markers", "soak: a long run; off by default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each mark its time limit and refuse a suite of the kit that was changed."""
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            _limit(item)
    faults = [fault for cls in _test_classes(items) for fault in changed_tests(cls)]
    if faults:
        raise pytest.UsageError("\n".join(faults))


def _limit(item: pytest.Item) -> None:
    limits = [limit for name, limit in _LIMITS_S.items() if item.get_closest_marker(name)]
    if limits and item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(max(limits)))


# --- the kit's own tests ----------------------------------------------------------------------


def _test_classes(items: list[pytest.Item]) -> list[type]:
    # Looked up, not imported: an environment without the testing extra must start too.
    if KIT not in sys.modules:
        return []
    classes = {item.cls for item in items if isinstance(item, pytest.Function) and item.cls is not None}
    return sorted(classes, key=lambda cls: (cls.__module__, cls.__qualname__))


def changed_tests(cls: type) -> list[str]:
    """Return a sentence for each test of a kit suite that ``cls`` overrides or drops without an xfail reason."""
    if _is_kit(cls):
        return []
    suites = [base for base in cls.__mro__ if _is_kit(base)]
    names = sorted({name for suite in suites for name in vars(suite) if name.startswith("test_")})
    return [_sentence(cls, name) for name in names if _is_changed(cls, suites, name)]


def _is_kit(cls: type) -> bool:
    return cls.__module__ == KIT or cls.__module__.startswith(f"{KIT}.")


def _is_changed(cls: type, suites: list[type], name: str) -> bool:
    shipped = next(vars(suite)[name] for suite in suites if name in vars(suite))
    actual = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
    marks = getattr(actual, "pytestmark", [])
    return actual is not shipped and not any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)


def _sentence(cls: type, name: str) -> str:
    return (
        f"{cls.__module__}.{cls.__qualname__}.{name}: changes a test of the kit; "
        "remove the override, or mark it xfail with a reason"
    )


# --- blocking calls ---------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    packages = request.config.getini(GUARDED)
    if not packages:
        yield
        return
    with _detector(packages):
        yield


@contextmanager
def _detector(packages: list[str]) -> Iterator[None]:
    try:
        from blockbuster import BlockBuster  # the host alone does not install it
    except ImportError as error:
        raise pytest.UsageError(f"{GUARDED} is set: install compute-bridge[testing]") from error
    # The suites themselves may wait: only what they test may not.
    suites = [KIT] if KIT in sys.modules else []
    detector = BlockBuster(scanned_modules=packages, excluded_modules=suites)
    detector.activate()
    try:
        yield
    finally:
        detector.deactivate()
