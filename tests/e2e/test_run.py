"""``compute-bridge run`` as a process of its own, over the files that an operator has."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compute_bridge.cli.metrics import METRICS
from crashkit.scene import Ground, Scene, Settings


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A coalition in files, whose market has told one tick and died."""
    ground = Ground.lay(tmp_path / "ground")
    scene = Scene.set(tmp_path / "scene", ground, Settings(), {})
    with start(scene, "market", "serve", "--config", str(scene.market_file)) as market:
        assert market.stdout is not None
        assert "serving" in market.stdout.readline()
        market.kill()
    return scene


def start(scene: Scene, *arguments: str) -> "subprocess.Popen[str]":
    installed = scene.folder.parent / "ground" / "installed"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), *sys.path])}
    command = [sys.executable, "-m", "compute_bridge", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=scene.folder
    )


def read_until(bridge: "subprocess.Popen[str]", words: str) -> list[str]:
    assert bridge.stderr is not None
    lines = []
    for line in bridge.stderr:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"the bridge ended with {bridge.wait()} before it said {words!r}:\n{''.join(lines)}")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_bridge_that_waits_for_the_market_stops_whole_when_told_to(scene: Scene, stop: signal.Signals) -> None:
    with start(scene, "run", "--config", str(scene.boot_file)) as bridge:
        read_until(bridge, "raise the epoch")
        with start(scene, "status", "--config", str(scene.boot_file)) as status:
            told, _ = status.communicate(timeout=30)
        with start(scene, "metrics", "--config", str(scene.boot_file)) as metrics:
            figures, _ = metrics.communicate(timeout=30)
        bridge.send_signal(stop)
        lines = read_until(bridge, "stopped")
        code = bridge.wait(timeout=30)

    assert "card.admitted: false" in told
    assert 'compute_bridge_oldest_orphan_seconds{backend="truth"} 0.0' in figures
    assert set() == {one.name for one in METRICS if one.name.removesuffix("_total") not in figures}
    assert f"draining after {stop.name}" in "".join(lines)
    assert 0 == code
    assert not (scene.folder / "bridge" / "control.sock").exists()


def test_a_second_bridge_on_one_journal_is_refused_in_words(scene: Scene) -> None:
    with start(scene, "run", "--config", str(scene.boot_file)) as bridge:
        read_until(bridge, "raise the epoch")
        with start(scene, "run", "--config", str(scene.boot_file)) as second:
            _, told = second.communicate(timeout=30)
        bridge.terminate()
        read_until(bridge, "stopped")

    assert 3 == second.returncode
    assert f"is held by process {bridge.pid}; two bridges cannot share one" in told
