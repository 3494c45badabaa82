"""Being installed costs nothing: the door imports no SSH."""

import subprocess
import sys

from compute_bridge_baremetal import hooks
from compute_bridge_baremetal.config import BaremetalConfig


def test_the_kind_is_called_baremetal():
    [kind] = hooks.register_backends()

    assert ("baremetal", BaremetalConfig) == (kind.kind, kind.config)


def test_the_hooks_import_no_asyncssh():
    program = "import sys, compute_bridge_baremetal.hooks; print('asyncssh' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout == "False\n"
