"""The boot: each step fails loudly, before the next one, with its number, its name and the mend."""

import subprocess
import sys
from pathlib import Path

import pytest

from bootfolder import make_folder
from compute_bridge import boot
from compute_bridge.ports.errors import BootError

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all that a boot needs up to its network."""
    return make_folder(tmp_path)


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "bridge.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def refused(folder: Path) -> str:
    with pytest.raises(BootError) as caught:
        await boot.serve(folder / "bridge.toml", {})
    return str(caught.value)


async def test_a_kind_that_nobody_installed_stops_the_second_step(folder: Path) -> None:
    edit(folder, 'kind = "ledger"', 'kind = "bananas"')
    told = await refused(folder)

    assert told.startswith("boot step 2 (find, measure and import the plugins): ")
    assert "compute-bridge-bananas" in told


async def test_a_kind_that_nobody_installed_is_named_with_file_and_key(folder: Path) -> None:
    edit(folder, 'policy = "cost-plus"', 'policy = "cost-pluss"')
    edit(folder, 'kind = "baremetal"', 'kind = "bare-metal"')
    told = await refused(folder)

    assert f"{folder}/bridge.toml: rate.policy: kind 'cost-pluss' of rate_policies is not installed" in told
    assert f"{folder}/bridge.toml: backend[0].kind: kind 'bare-metal' of backends is not installed" in told


async def test_a_handshake_of_another_coalition_stops_the_third_step(folder: Path) -> None:
    edit(folder, 'fingerprint = "', 'fingerprint = "' + "0" * 64 + '" # "')
    told = await refused(folder)

    assert told.startswith("boot step 3 (resolve the Compute module): coalition.handshake ")
    assert f"coalition.fingerprint says {'0' * 64}; ask the coalition operator" in told


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100, b"\0" * 200_000])
async def test_a_damaged_handshake_is_named_and_read_no_further_than_it_may_be_long(
    folder: Path, damage: bytes
) -> None:
    (folder / "handshake").write_bytes(damage)

    assert "handshake" in await refused(folder)


async def test_a_root_key_that_is_none_stops_the_fourth_step_without_showing_it(folder: Path) -> None:
    (folder / "root.key").write_text("s3cret-but-not-hex")
    told = await refused(folder)

    assert told.startswith("boot step 4 (open the journal and find the keys of every boot): bridge.root_key")
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("name", "key"), [("root.key", "bridge.root_key"), ("rack.key", "backend[0].ssh_key")], ids=["root", "rack"]
)
async def test_a_secret_that_others_may_read_is_named_with_file_and_key(folder: Path, name: str, key: str) -> None:
    (folder / name).chmod(0o644)

    assert f"{folder}/bridge.toml: {key}: secret file:" in await refused(folder)


async def test_a_journal_of_another_provider_stops_the_fourth_step(folder: Path) -> None:
    await refused(folder)
    (folder / "root.key").write_text("08" * 32 + "\n")
    told = await refused(folder)

    assert told.startswith("boot step 4 (open the journal and find the keys of every boot): bridge.state_dir: ")
    assert "bridge.root_key makes us" in told


async def test_no_step_is_told_twice(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="compute_bridge.boot")
    await refused(folder)
    told = [record.getMessage().split(":")[0] for record in caplog.records]

    assert told == [f"boot {number}/11" for number in range(1, 6)]


async def test_a_journal_that_is_gone_from_a_folder_in_use_is_not_begun_anew(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "settlement").mkdir()
    told = await refused(folder)

    assert told.startswith("boot step 4 ")
    assert "bridge.journal" in told
    assert not (folder / "state" / "bridge.journal").exists()


async def test_an_unreadable_rack_key_stops_the_boot_before_anything_is_sold(folder: Path) -> None:
    told = await refused(folder)

    assert told.startswith("boot step 7 (build the fleet): ")
    assert "not read before" not in told


async def test_every_step_has_a_name_of_its_own() -> None:
    assert len(boot.STEPS) == len(set(boot.STEPS)) == 11


LEASHED = """
import logging, threading
from compute_bridge.adapters.leash import Leash
logging.basicConfig()
leash = Leash(0.2)
leash.start()
{}
threading.Event().wait(1 if {} else 60)
print("alive")
"""


@pytest.mark.parametrize(("then", "is_alive"), [("leash.cancel()", True), ("pass", False)])
def test_a_stopped_bridge_leaves_though_a_clean_up_hangs_unless_it_has_closed(then: str, is_alive: bool) -> None:
    program = LEASHED.format(then, is_alive)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)

    assert 0 == run.returncode
    assert is_alive == ("alive" in run.stdout)
    assert is_alive == ("the next start goes on with it" not in run.stderr)
