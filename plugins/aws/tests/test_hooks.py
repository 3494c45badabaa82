"""Being installed costs nothing: neither the door nor a check of the table imports the SDK."""

import subprocess
import sys

from compute_bridge_aws import hooks
from compute_bridge_aws.config import AwsConfig

_PROGRAM = """
import sys
import compute_bridge_aws.hooks
from compute_bridge_aws.testing import __name__
from compute_bridge.adapters.strict_toml import structure
from compute_bridge_aws.config import AwsConfig
structure(
    {
        "owner": "o",
        "shapes": ["t3.*"],
        "account_id": "123456789012",
        "access_key_id": "env:A",
        "secret_access_key": "env:B",
        "address_cost": 1,
        "egress_cost": 1,
        "region": [{
            "name": "eu-west-1",
            "subnets": {"eu-west-1a": "subnet-00000001"},
            "images": {"debian": "ami-00000001"},
        }],
    },
    AwsConfig, key="backend[0]", folder=None,
)
import compute_bridge_aws.command
print([name for name in ("boto3", "botocore", "asyncssh") if name in sys.modules])
"""


def test_the_kind_is_called_aws():
    [kind] = hooks.register_backends()

    assert ("aws", AwsConfig) == (kind.kind, kind.config)


def test_neither_discovery_nor_a_check_of_the_table_imports_the_sdk():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"
