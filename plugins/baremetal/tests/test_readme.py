"""The boot file in the README is one that the bridge takes."""

import re
import tomllib
from pathlib import Path

from compute_bridge.adapters.strict_toml import structure
from compute_bridge_baremetal.config import BaremetalConfig

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_s_table_is_taken():
    [text] = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    [table] = tomllib.loads(text)["backend"]
    config = structure(
        {key: value for key, value in table.items() if key not in ("name", "kind")},
        BaremetalConfig,
        key="backend[0]",
        folder=None,
    )

    assert config.machines[0].dialled == "203.0.113.11"
