"""The commands of the README make the roles and assign them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from compute_bridge_azure.policy import document

README = (Path(__file__).parents[1] / "README.md").read_text()
SUBSCRIPTION = "00000000-0000-0000-0000-00000000000b"
PRINCIPAL = "00000000-0000-0000-0000-00000000000c"
# Each call, its arguments as one line of JSON.
AZ = f"""#!{sys.executable}
import json, sys
with open("calls", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
"""


def test_the_readmes_commands_make_and_assign_the_roles(tmp_path):
    az = tmp_path / "bin" / "az"
    az.parent.mkdir()
    az.write_text(AZ)
    az.chmod(0o755)
    path = os.pathsep.join([str(az.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    commands = re.findall(r"^ *\$ (.*)$", README, re.MULTILINE)
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, check=True)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    roles = document(SUBSCRIPTION, "compute-bridge", ["net"], 22, metrics=False)["roles"]

    assert commands[-1] == "sh setup.sh"
    made = [json.loads(call[-1]) for call in calls if call[:4] == ["role", "definition", "create", "--role-definition"]]
    assert made == roles
    whom = ["--assignee-object-id", PRINCIPAL, "--assignee-principal-type", "ServicePrincipal"]
    assert calls[len(made) :] == [
        ["role", "assignment", "create", *whom, "--role", role["Name"], "--scope", scope]
        for role in roles
        for scope in role["AssignableScopes"]
    ]
