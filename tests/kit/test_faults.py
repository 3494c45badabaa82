"""Every planted fault is caught by the tests named for it, and every test of the suite can fail."""

import subprocess
import sys
from collections import defaultdict
from xml.etree import ElementTree

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.faults.table import FAULTS

pytestmark = pytest.mark.timeout(300)

SUITES = """
import pytest
from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.faults.table import FAULTS

def suite(fault):
    def world(self):
        return fault.world()
    return type(f"Test{fault.name}", (BackendConformance,), {"__module__": __name__, "world": pytest.fixture(world)})

globals().update({f"Test{fault.name}": suite(fault) for fault in FAULTS})
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Run each fault against the tests that must catch it, in a pytest of its own; return what they said."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "test_suites.py").write_text(SUITES)
    wanted = [f"test_suites.py::Test{fault.name}::{test}" for fault in FAULTS for test in fault.caught_by]
    options = ["-W", "error", "-p", "no:cacheprovider", "--timeout=30", "--junitxml=report.xml", "-q"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *wanted], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr

    said: dict[tuple[str, str], str] = defaultdict(str)
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        fault = case.attrib["classname"].rpartition(".")[2].removeprefix("Test")
        test = case.attrib["name"].partition("[")[0]
        said[fault, test] += "".join(f"{found.get('message')}\n{found.text}" for found in case.iter("failure"))
        said[fault, test] += "".join(f"{found.get('message')}\n{found.text}" for found in case.iter("error"))
    return said


@pytest.mark.parametrize(
    ("fault", "test"),
    [pytest.param(fault, test, id=f"{fault.name}-{test}") for fault in FAULTS for test in fault.caught_by],
)
def test_a_planted_fault_is_caught(failures, fault, test):
    assert failures[fault.name, test], f"{test} passes, although the backend {fault.backend.__doc__}"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught_for_what_it_does(failures, fault):
    assert fault.says in failures[fault.name, fault.caught_by[0]]


def test_every_test_of_the_suite_catches_a_fault():
    tests = {name for name in dir(BackendConformance) if name.startswith("test_")}

    assert tests == {test for fault in FAULTS for test in fault.caught_by}


def test_faults_are_told_apart():
    names = [fault.name for fault in FAULTS]

    assert len(names) == len(set(names))
