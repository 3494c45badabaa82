"""The boot file in the README is one that the bridge takes."""

import re
import tomllib
from pathlib import Path

from compute_bridge.adapters.strict_toml import structure
from compute_bridge_aws.config import AwsConfig

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_s_table_is_taken():
    [text] = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    [table] = tomllib.loads(text)["backend"]
    config: AwsConfig = structure(
        {key: value for key, value in table.items() if key not in ("name", "kind")},
        AwsConfig,
        key="backend[0]",
        folder=None,
    )

    assert [region.name for region in config.regions] == ["eu-central-1", "us-east-2"]
    assert config.image_names == ("debian",)
