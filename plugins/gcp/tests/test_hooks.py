"""Being installed, and being named in a boot file that is checked, costs nothing: no SDK is imported for it."""

import subprocess
import sys

from compute_bridge_gcp import hooks
from compute_bridge_gcp.config import GcpConfig

_OPEN = """
import sys, threading
import anyio
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.backend import BackendContext
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge_gcp.hooks import open_project
from compute_bridge_gcp.config import GcpConfig, GcpImage, GcpRegion

class Finder:
    threads = []
    def find_spec(self, name, path=None, target=None):
        if name == "google.cloud.compute_v1":
            self.threads.append(threading.current_thread() is threading.main_thread())

async def main():
    config = GcpConfig(owner="us", project="project-7", service_account="a@b.c", credentials="env:KEY", shapes=("*",),
        regions=(GcpRegion(name="europe-west4", subnetwork="s"),), images=(GcpImage(name="d", project="ubuntu-os-cloud",
        family="ubuntu-2404-lts-amd64"),), egress_cost=1)
    sys.meta_path.insert(0, Finder())
    context = BackendContext(BackendName("b"), HurriedClock(), lambda reference: b"no key")
    try:
        async with open_project(context, config):
            pass
    except Exception as error:
        print(type(error).__name__)
    print(Finder.threads)

anyio.run(main)
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_the_kind_is_called_gcp():
    [kind] = hooks.register_backends()

    assert ("gcp", GcpConfig) == (kind.kind, kind.config)


def test_neither_the_door_nor_the_table_nor_the_command_imports_the_sdk():
    modules = "compute_bridge_gcp.hooks, compute_bridge_gcp.config, compute_bridge_gcp.command"
    program = f"import sys, {modules}; print([name for name in sys.modules if name.startswith(('google', 'requests'))])"

    assert run(program) == "[]\n"


def test_the_sdk_is_imported_in_a_worker_thread_and_a_bad_key_stops_the_boot():
    assert run(_OPEN) == "BootError\n[False]\n"
