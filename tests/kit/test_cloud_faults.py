"""Every fault planted in a cloud's plugin is caught: by its fake's refusal, by the suite, or by the fault matrix."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest
from plantedclouds.planting import ALL
from plantedclouds.table import PLANTED

from compute_bridge.testing.cloud_faults import CloudFaults

pytestmark = [pytest.mark.needs("sshd"), pytest.mark.timeout(900)]

LIB = Path(__file__).parents[1] / "lib"
SUITES = """
import pytest
from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.cloud_faults import CloudFaults
from plantedclouds.table import PLANTED

def suite(name, base, fault):
    def world(self):
        with fault.world() as world:
            yield world
    return type(name, (base,), {"__module__": __name__, "world": pytest.fixture(world)})

for fault in PLANTED:
    for kind, base in (("TestSuite", BackendConformance), ("TestMatrix", CloudFaults)):
        globals()[kind + fault.title] = suite(kind + fault.title, base, fault)
"""
MATRIX = {name for name in dir(CloudFaults) if name.startswith("test_")}


def suite_of(fault, test):
    return f"{'TestMatrix' if test in MATRIX else 'TestSuite'}{fault.title}"


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Run each fault against the tests that must catch it, in a pytest of its own; return what they said."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "test_suites.py").write_text(SUITES)
    wanted = [f"test_suites.py::{suite_of(fault, test)}::{test}" for fault in PLANTED for test in fault.caught_by]
    # Python 3.11's own parser may fail over the source that pytest's tracebacks show, and end the whole run.
    options = ["-W", "error", "-p", "no:cacheprovider", "--timeout=120", "--junitxml=report.xml", "-q", "--tb=native"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *wanted],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr

    said: dict[tuple[str, str], str] = defaultdict(str)
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        key = case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0]
        for found in (*case.iter("failure"), *case.iter("error")):
            said[key] += f"{found.get('message')}\n{found.text}"
    return said


@pytest.mark.parametrize(
    ("fault", "test"),
    [pytest.param(fault, test, id=f"{fault.title}-{test}") for fault in PLANTED for test in fault.caught_by],
)
def test_a_planted_fault_is_caught(failures, fault, test):
    assert failures[suite_of(fault, test), test], f"{test} passes, although the plugin of {fault.on}: {fault.does}"


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.title)
def test_a_planted_fault_is_caught_for_what_it_does(failures, fault):
    test = fault.caught_by[0]

    assert fault.says in failures[suite_of(fault, test), test]


def test_every_test_of_the_fault_matrix_catches_a_fault():
    assert MATRIX <= {test for fault in PLANTED for test in fault.caught_by}


@pytest.mark.parametrize("on", ALL)
def test_each_cloud_has_the_faults_that_it_alone_can_have(on):
    tests = {test for fault in PLANTED for test in fault.caught_by if fault.on == on and fault.sdk is not None}

    assert tests >= {"test_provision_starts_one_machine", "test_terminate_takes_the_switch_away"}


def test_faults_are_told_apart():
    names = [fault.title for fault in PLANTED]

    assert len(names) == len(set(names))
