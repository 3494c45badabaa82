"""Being installed costs nothing: neither the door nor a check of the table imports the SDK."""

import subprocess
import sys

from compute_bridge_azure import hooks
from compute_bridge_azure.config import AzureConfig

CHECK = """
import sys, tomllib
from compute_bridge_azure import hooks
from compute_bridge.adapters.strict_toml import structure
[kind] = hooks.register_backends()
[table] = tomllib.load(open(sys.argv[1], "rb"))["backend"]
structure({k: v for k, v in table.items() if k not in ("name", "kind")}, kind.config, key="backend[0]", folder=None)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("azure", "msal", "requests", "asyncssh")))
"""


def test_the_kind_is_called_azure():
    [kind] = hooks.register_backends()

    assert ("azure", AzureConfig) == (kind.kind, kind.config)


def test_a_table_is_checked_without_the_sdk(tmp_path, readme_table):
    path = tmp_path / "bridge.toml"
    path.write_text(readme_table)
    done = subprocess.run([sys.executable, "-c", CHECK, str(path)], check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"


def test_the_command_is_printed_without_the_sdk():
    program = "import sys, compute_bridge_azure.command; print([n for n in sys.modules if n.startswith('azure')])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"
