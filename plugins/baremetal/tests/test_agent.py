"""The part on the rack host, run here by the shells that rack hosts have, on folders of our own."""

import base64
import fcntl
import hashlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from compute_bridge_baremetal.protocol import RefusedError, decode, encode, script
from compute_bridge_baremetal.testing.world import command_lines

TOKEN = "ab" * 32
ATTEMPT = "cd" * 32
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "ash"]}

CREATE: dict[str, str | int] = {
    "token": TOKEN,
    "attempt": ATTEMPT,
    "order": hashlib.sha256(b"order").hexdigest(),
    "name": "cb-abababababababababababab",
    "grant_hash": "01" * 32,
    "mac": "02" * 32,
    "offer": "m0",
    "image": "vm:host",
    "ends_at": 1_900_000_000_000,
    "remaining_ms": 3_600_000,
    "cpu": 500,
    "mem": 256,
    "disk": 2,
    "network": "egress",
    "user": "guest",
    "host": "127.0.0.1",
    "listen": "127.0.0.1",
    "port_low": 23000,
    "port_high": 23099,
    "total_cpu": 1000,
    "total_mem": 1000,
    "total_disk": 4,
    "host_key": "ssh-ed25519 AAAA",
    "host_key_private": base64.b64encode(b"private").decode(),
    "authorized_key": base64.b64encode(b"public\n").decode(),
    "driver": "process",
    "backend": "rack",
    "podman": "podman",
    "runtime": "",
    "pids": 64,
    "guest_sshd": "",
    "sample_ms": 200,
    "dns": "",
    "denied": "",
    "labels": "",
    "uid_base": 1_000_000,
}


class Agent:
    """The agent on a state folder, without SSH between."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.state = folder / "state"
        self.file = folder / "agent.sh"
        self.file.write_bytes(script().text)
        self.shell = shell
        self.environment: dict[str, str] = {}

    def ask(self, operation: str, values: Mapping[str, str | int], *, watch: tuple[str, ...] = ()) -> list[str]:
        """Return the lines of the reply."""
        return [" ".join(pair) for pair in decode(self.run(operation, encode(values, watch=watch)))]

    def run(self, operation: str, request: bytes, *, apart: bool = False) -> bytes:
        """Return what the agent writes; ``apart``, it runs in a process group of its own."""
        command = [*self.shell, str(self.file), str(self.state), operation]
        environment = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C", **self.environment}
        done = subprocess.run(
            command, input=request, stdout=subprocess.PIPE, env=environment, check=True, start_new_session=apart
        )
        return done.stdout

    def lease(self, **lines: str) -> Path:
        """Make the folder of a lease that runs, by hand."""
        folder = self.state / "leases" / TOKEN
        folder.mkdir(parents=True)
        (self.state / "locks").mkdir(exist_ok=True)
        record = {"token": TOKEN, "driver": "podman", "disk": "3", "podman": "true", "sample_ms": "60000"}
        (folder / "record").write_text("".join(f"{key} {value}\n" for key, value in {**record, **lines}.items()))
        return folder


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in SHELLS])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Agent:
    return Agent(tmp_path, SHELLS[request.param])


@pytest.fixture
def server(tmp_path: Path) -> str:
    """Return a server that a lease can run: it serves nobody, until it is killed."""
    path = tmp_path / "server"
    path.write_text("#!/bin/sh\nexec sleep 1000\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def living(agent: Agent, server: str) -> Iterator[list[str]]:
    """Return the reply to a create that was served."""
    yield agent.ask("create", {**CREATE, "guest_sshd": server})
    agent.ask("terminate", {"token": TOKEN})


def kill(pid: int) -> None:
    """Kill a process and return when the kernel has done so."""
    watched = os.pidfd_open(pid)
    signal.pidfd_send_signal(watched, signal.SIGKILL)
    select.select([watched], [], [], 10)
    os.close(watched)


def said(lines: list[str], key: str) -> str:
    return next(line.partition(" ")[2] for line in lines if line.startswith(f"{key} "))


# --- a lease ----------------------------------------------------------------------------------


def test_a_lease_is_made_listed_and_ended(agent: Agent, living: list[str]):
    listed = agent.ask("list", {})
    agent.ask("terminate", {"token": TOKEN})
    after = agent.ask("list", {}, watch=(TOKEN,))

    assert said(living, "state") == "new"
    assert f"lease {TOKEN}" in listed
    assert said(listed, "cpu") == "500"
    assert f"lease {TOKEN}" not in after
    assert said(after, "cause") == "terminated"


def test_what_has_ended_still_says_whose_it_was_and_when_it_began(agent: Agent, living: list[str]):
    agent.ask("terminate", {"token": TOKEN})
    stone = (agent.state / "ended" / TOKEN).read_text().splitlines()

    assert said(stone, "grant_hash") == CREATE["grant_hash"]
    assert said(stone, "started_at") == said(living, "started_at")


def test_the_same_order_meets_the_same_lease(agent: Agent, server: str, living: list[str]):
    again = agent.ask("create", {**CREATE, "guest_sshd": server, "attempt": "ef" * 32})

    assert said(again, "state") == "live"
    assert again[2:] == living[2:]


def test_a_token_is_served_once(agent: Agent, server: str, living: list[str]):
    agent.ask("terminate", {"token": TOKEN})

    with pytest.raises(RefusedError, match="terminated") as caught:
        agent.ask("create", {**CREATE, "guest_sshd": server})
    assert caught.value.code == "ended"


def test_an_attempt_that_was_given_up_is_not_made_up_for(agent: Agent, server: str):
    agent.ask("terminate", {"token": TOKEN, "attempt": ATTEMPT})

    with pytest.raises(RefusedError) as caught:
        agent.ask("create", {**CREATE, "guest_sshd": server})
    assert caught.value.code == "abandoned"


def test_an_attempt_takes_back_only_its_own(agent: Agent, living: list[str]):
    agent.ask("terminate", {"token": TOKEN, "attempt": "ef" * 32})

    assert f"lease {TOKEN}" in agent.ask("list", {})


def test_an_attempt_that_was_taken_back_leaves_its_token_fresh(agent: Agent, server: str, living: list[str]):
    agent.ask("terminate", {"token": TOKEN, "attempt": ATTEMPT})
    again = agent.ask("create", {**CREATE, "guest_sshd": server, "attempt": "ef" * 32})

    assert said(again, "state") == "new"


@pytest.mark.parametrize(("key", "most"), [("cpu", 1000), ("mem", 1000), ("disk", 4)])
def test_no_more_is_promised_than_there_is(agent: Agent, server: str, living: list[str], key: str, most: int):
    too_much = {**CREATE, "token": "ee" * 32, "guest_sshd": server, key: most}

    with pytest.raises(RefusedError, match="in use: 500 millicores, 256 MiB, 2 GiB") as caught:
        agent.ask("create", too_much)
    assert caught.value.code == "no-capacity"
    assert not (agent.state / "leases" / ("ee" * 32)).exists()


def test_a_start_that_fails_leaves_nothing(agent: Agent):
    with pytest.raises(RefusedError, match="guest_sshd names no program here") as caught:
        agent.ask("create", {**CREATE, "guest_sshd": "/no/such/server"})
    assert caught.value.code == "unfit"
    assert list((agent.state / "leases").iterdir()) == []


def test_a_hold_whose_maker_died_is_released(agent: Agent):
    agent.lease(driver="process", cpu="1000", mem="1000")

    assert said(agent.ask("list", {}), "cpu") == "0"


def test_a_dead_workload_is_listed_no_more_and_its_status_is_told(agent: Agent, living: list[str]):
    kill(int(said(living, "pid")))
    listed = agent.ask("list", {}, watch=(TOKEN,))
    assert f"lease {TOKEN}" not in listed
    # Its keeper may be the one who buries it.
    while f"dying {TOKEN}" in listed:
        listed = agent.ask("list", {}, watch=(TOKEN,))

    assert f"lease {TOKEN}" not in listed
    assert said(listed, "cause") == "exited"
    assert "status 137" in said(listed, "detail")


def test_a_workload_that_is_being_buried_is_neither_live_nor_lost(agent: Agent):
    folder = agent.lease(driver="process")
    (folder / "run").write_text("pid 1\nticks 0\nboot 00000000-another-boot\n")
    with (agent.state / "locks" / TOKEN).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        listed = agent.ask("list", {}, watch=(TOKEN,))

    assert listed == ["room now", "cpu 0", "mem 0", "disk 3", f"dying {TOKEN}"]


def test_after_a_restart_of_the_rack_host_no_process_of_another_is_ended(agent: Agent):
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        folder = agent.lease(driver="process")
        stale = f"pid {innocent.pid}\nticks 0\nboot 00000000-another-boot\n"
        (folder / "run").write_text(stale)
        (folder / "main").write_text(stale)
        listed = agent.ask("list", {}, watch=(TOKEN,))

        assert said(listed, "cause") == "lost"
        assert innocent.poll() is None
        innocent.kill()


def test_a_restart_of_the_rack_host_loses_its_leases(agent: Agent):
    folder = agent.lease(driver="process")
    (folder / "run").write_text("pid 1\nticks 0\nboot 00000000-another-boot\n")
    listed = agent.ask("list", {}, watch=(TOKEN,))

    assert f"lease {TOKEN}" not in listed
    assert said(listed, "cause") == "lost"
    assert said(listed, "detail") == "the rack host restarted"


# --- the keeper -------------------------------------------------------------------------------


@pytest.fixture
def programs(agent: Agent, tmp_path: Path) -> Path:
    """Return a folder whose programs come before the machine's own."""
    if agent.shell[0] == "busybox":
        pytest.skip("busybox runs its own programs, whatever the PATH has")
    folder = tmp_path / "before"
    folder.mkdir()
    agent.environment["PATH"] = f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin"
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.new").write_text(f"#!/bin/sh\n{text}\n")
    (folder / f"{name}.new").chmod(0o755)
    (folder / f"{name}.new").rename(folder / name)


def until(probe: Callable[[], bool]) -> None:
    """Look until it is so, or for so long that it never will be."""
    for _ in range(1500):
        if probe():
            return
        select.select([], [], [], 0.02)
    raise AssertionError("it never came")


def set_deadline(lease: Path, up_ms: int) -> None:
    lines = (lease / "run").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("deadline_up ")]
    (lease / "moved").write_text("\n".join([*kept, f"deadline_up {up_ms}", ""]))
    (lease / "moved").rename(lease / "run")


def is_waited_for(lock: Path) -> bool:
    """Whether somebody waits for the lock that is held on ``lock``."""
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "-> FLOCK" in line]
    return any(line.split()[6].endswith(f":{lock.stat().st_ino}") for line in waiting)


def test_an_end_that_is_moved_as_its_keeper_comes_to_keep_it_does_not_come(agent: Agent, living: list[str]):
    lease = agent.state / "leases" / TOKEN
    with (agent.state / "locks" / TOKEN).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        set_deadline(lease, 1)
        until(lambda: is_waited_for(agent.state / "locks" / TOKEN))
        set_deadline(lease, 10**12)
    # It goes on, and round again: a burial meters once, and no more.
    for _ in range(2):
        (lease / "usage").unlink(missing_ok=True)
        until((lease / "usage").exists)

    assert f"lease {TOKEN}" in agent.ask("list", {})


def test_a_lease_that_cannot_be_ended_is_tried_once_a_sample(agent: Agent, programs: Path):
    lease = agent.lease(podman="true", sample_ms="5000")
    (lease / "run").write_text("pid 0\ndeadline_up 1\n")
    program(programs, "sleep", f'echo "$1" >>{agent.state}/slept; rm {lease}/record')
    command = [*agent.shell, str(agent.file), str(agent.state), "keep", TOKEN]
    subprocess.run(command, env=agent.environment, check=True, start_new_session=True)

    assert (agent.state / "slept").read_text().splitlines() == ["5.000"]


@pytest.mark.parametrize("now", ["1000000000000", "2500000000000"], ids=["years behind", "years ahead"])
def test_the_wall_clock_of_the_rack_host_moves_no_end(agent: Agent, server: str, programs: Path, now: str):
    agent.ask("create", {**CREATE, "guest_sshd": server})
    program(programs, "date", f"echo {now}")
    lease = agent.state / "leases" / TOKEN
    (lease / "usage").unlink(missing_ok=True)
    until((lease / "usage").exists)
    during = agent.ask("list", {})
    agent.ask("extend", {"token": TOKEN, "ends_at": 1, "remaining_ms": 1})
    until(lambda: (agent.state / "ended" / TOKEN).exists())
    after = agent.ask("list", {}, watch=(TOKEN,))

    assert f"lease {TOKEN}" in during
    assert said(after, "cause") == "deadline"
    assert said(after, "ended_at") == now


@pytest.mark.parametrize("file", ["record", "run"])
def test_a_create_that_was_killed_half_way_is_undone_without_a_bridge(
    agent: Agent, server: str, programs: Path, file: str
):
    # The call and all that it waits for die at once: with nothing started yet, or with all of it running.
    kill_all = f'case "$*" in */{file}) rm "$0"; kill -KILL 0 ;; esac'
    put = '/bin/mv "$@"'
    program(programs, "mv", f"{put}\n{kill_all}" if file == "record" else f"{kill_all}\n{put}")
    with pytest.raises(subprocess.CalledProcessError):
        agent.run("create", encode({**CREATE, "guest_sshd": server, "sample_ms": 50}), apart=True)
    if file == "record":
        # No keeper has begun, and there is nothing to keep: the hold goes when somebody looks.
        agent.ask("list", {})
    until(lambda: not list((agent.state / "leases").iterdir()))

    # The workload is gone, and its keeper goes too.
    assert not [line for line in command_lines() if server in line]
    until(lambda: not [line for line in command_lines() if str(agent.state) in line])


# --- requests ---------------------------------------------------------------------------------


def test_a_request_that_was_cut_short_does_nothing(agent: Agent, server: str):
    request = encode({**CREATE, "guest_sshd": server})

    with pytest.raises(RefusedError, match="cut short"):
        decode(agent.run("create", request[:-2]))
    assert list((agent.state / "leases").iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token", "../../etc/passwd"),
        ("token", "AB" * 32),
        ("cpu", "1; touch /tmp/owned"),
        ("mem", "-1"),
        ("user", "$(touch owned)"),
        ("driver", "sh"),
        ("surprise", "1"),
    ],
)
def test_a_value_of_another_form_is_refused(agent: Agent, server: str, key: str, value: str):
    with pytest.raises(RefusedError) as caught:
        agent.ask("create", {**CREATE, "guest_sshd": server, key: value})
    assert caught.value.code == "bad-request"


def test_no_key_that_the_order_needs_may_be_missing(agent: Agent):
    with pytest.raises(RefusedError, match="host_key_private is missing"):
        agent.ask("create", {key: value for key, value in CREATE.items() if key != "host_key_private"})


def test_a_state_folder_that_cannot_be_written_says_the_mend(agent: Agent):
    agent.state = Path("/proc/none")

    with pytest.raises(RefusedError, match="set state_dir to a folder of the login user"):
        agent.ask("list", {})


# --- metering ---------------------------------------------------------------------------------


@pytest.fixture
def recorded(agent: Agent, tmp_path: Path) -> Path:
    """Return the root of recorded trees, with a container's process in them."""
    proc = tmp_path / "proc"
    (proc / "4242" / "net").mkdir(parents=True)
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text("boot-1\n")
    (proc / "uptime").write_text("1000.50 900.00\n")
    (proc / "4242" / "stat").write_text("4242 (ssh) d) S 1 " + "0 " * 17 + "777 0 0\n")
    (proc / "4242" / "net" / "dev").write_text(
        "Inter-|   Receive\n face |bytes packets\n"
        "    lo:    9999  1 0 0 0 0 0 0    9999  1 0 0 0 0 0 0\n"
        "  eth0: 5000000  1 0 0 0 0 0 0  700  1 0 0 0 0 0 0\n"
    )
    agent.environment |= {"CB_PROC_ROOT": str(proc), "CB_CGROUP_ROOT": str(tmp_path / "cgroup")}
    return tmp_path


def meter(agent: Agent, where: str) -> list[str]:
    folder = agent.lease()
    run = f"pid 4242\nticks 777\nboot boot-1\nstarted_up 990500\ndeadline_up 9990500\nstarted_at 1\n{where}"
    (folder / "run").write_text(run)
    return agent.ask("usage", {"token": TOKEN})


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def cgroup_v2(recorded: Path) -> Path:
    folder = recorded / "cgroup/machine.slice/libpod-1.scope/container"
    write(folder / "cpu.stat", "usage_usec 7654321\nuser_usec 1\nsystem_usec 2\n")
    write(folder / "memory.current", f"{300 << 20}\n")
    write(folder / "memory.stat", f"anon 1\nfile 2\ninactive_file {100 << 20}\nactive_file 5\n")
    return folder


def test_cgroup_v2_is_read(agent: Agent, cgroup_v2: Path):
    where = "/machine.slice/libpod-1.scope/container"
    usage = meter(agent, f"cgroup_version 2\ncgroup_cpu {where}\ncgroup_mem {where}\n")

    assert (said(usage, "core_ms"), said(usage, "core_source")) == ("7654", "cgroup-v2")
    assert said(usage, "ram_mib_ms") == str(200 * 10_000)
    assert (said(usage, "net_in"), said(usage, "net_out")) == ("5000000", "700")
    assert (said(usage, "wall_ms"), said(usage, "disk")) == ("10000", "3")


def test_cgroup_v1_is_read(agent: Agent, recorded: Path):
    root = recorded / "cgroup"
    write(root / "cpuacct/libpod/1/cpuacct.usage", "7654321000\n")
    write(root / "memory/libpod/1/memory.usage_in_bytes", f"{300 << 20}\n")
    write(root / "memory/libpod/1/memory.stat", f"inactive_file 1\ntotal_inactive_file {100 << 20}\n")
    usage = meter(agent, "cgroup_version 1\ncgroup_cpu /libpod/1\ncgroup_mem /libpod/1\n")

    assert (said(usage, "core_ms"), said(usage, "core_source")) == ("7654", "cgroup-v1")
    assert said(usage, "ram_mib_ms") == str(200 * 10_000)


def test_a_count_survives_its_cgroup(agent: Agent, cgroup_v2: Path):
    where = "/machine.slice/libpod-1.scope/container"
    before = meter(agent, f"cgroup_version 2\ncgroup_cpu {where}\ncgroup_mem {where}\n")
    shutil.rmtree(cgroup_v2)
    after = agent.ask("usage", {"token": TOKEN})

    assert before == after


def test_a_counter_that_starts_again_takes_nothing_back(agent: Agent, recorded: Path, cgroup_v2: Path):
    where = "/machine.slice/libpod-1.scope/container"
    meter(agent, f"cgroup_version 2\ncgroup_cpu {where}\ncgroup_mem {where}\n")
    write(cgroup_v2 / "cpu.stat", "usage_usec 1000\n")
    write(recorded / "proc/uptime", "1002.50 900.00\n")
    usage = agent.ask("usage", {"token": TOKEN})

    assert said(usage, "core_ms") == "7654"
    assert said(usage, "ram_mib_ms") == str(200 * 12_000)


def test_the_usage_of_the_unknown_is_unknown(agent: Agent):
    with pytest.raises(RefusedError) as caught:
        agent.ask("usage", {"token": TOKEN})
    assert caught.value.code == "unknown"


# --- systemd ----------------------------------------------------------------------------------


@pytest.fixture
def recorder(agent: Agent, recorded: Path) -> Path:
    """Return a file that names every call of the programs that a machine with systemd has."""
    calls = recorded / "calls"
    programs = recorded / "programs"
    for name in ("podman", "systemd-run", "systemctl", "nft"):
        write(programs / name, f'#!/bin/sh\necho "{name} $*" >>{calls}\n{REPLIES.get(name, "")}')
        (programs / name).chmod(0o755)
    (recorded / "systemd").mkdir()
    write(recorded / "cgroup/cgroup.controllers", "cpu memory pids\n")
    write(recorded / "proc/4242/cgroup", "0::/compute-bridge.slice/x.service/container\n")
    write(recorded / "root/usr/sbin/sshd", "")
    write(recorded / "root/etc/passwd", "guest:x:1:1::/:/bin/sh\n")
    agent.environment |= {
        "CB_SYSTEMD_ROOT": str(recorded / "systemd"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "MERGED": str(recorded / "root"),
    }
    image = agent.state / "images" / ("11" * 32)
    write(image, "22" * 32)
    return calls


REPLIES = {
    "podman": (
        'case "$*" in\n'
        "*.State.ConmonPid*) echo 4242 4243 ;;\n"
        "*.State.Running*) echo true ;;\n"
        "*NetworkInterface*) echo podman9 ;;\n"
        "*mount*) echo $MERGED ;;\n"
        "*exists*) exit 1 ;;\n"
        "esac\n"
    ),
}

ON_SYSTEMD = {**CREATE, "driver": "podman", "image": "11" * 32, "remaining_ms": 600_000, "network": "isolated"}


@pytest.mark.needs("podman")
class TestSystemd:
    """What the agent asks of a systemd that is PID 1, as its programs were called."""

    def test_the_workload_is_a_unit_with_limits(self, agent: Agent, recorder: Path):
        agent.ask("create", ON_SYSTEMD)
        unit = next(line for line in recorder.read_text().splitlines() if "start --attach" in line)

        assert f"--unit compute-bridge-{TOKEN[:24]}.service" in unit
        assert properties(unit) == {
            "Type": "exec",
            "Slice": "compute-bridge.slice",
            "Delegate": "yes",
            "KillMode": "mixed",
            "TimeoutStopSec": "20",
            "CollectMode": "inactive-or-failed",
            "CPUQuota": "50%",
            "MemoryMax": "320M",
            "TasksMax": "96",
        }

    def test_the_keeper_is_a_unit_that_outlives_the_session(self, agent: Agent, recorder: Path):
        agent.ask("create", ON_SYSTEMD)
        unit = next(line for line in recorder.read_text().splitlines() if "-keeper-" in line)

        assert properties(unit)["KillMode"] == "process"
        assert properties(unit)["Restart"] == "on-failure"
        assert unit.endswith(f"{agent.state} keep {TOKEN}")

    def test_the_container_lives_in_its_unit(self, agent: Agent, recorder: Path):
        agent.ask("create", ON_SYSTEMD)
        create = next(line for line in recorder.read_text().splitlines() if line.startswith("podman create"))

        assert "--cgroups split" in create
        assert "--cgroup-manager" not in create
        for option in ("--cpus 0.500", "--memory 256m", "--memory-swap 256m", "--pids-limit 64", "--dns none"):
            assert option in create

    def test_its_cgroup_is_where_it_is_metered(self, agent: Agent, recorder: Path):
        made = agent.ask("create", ON_SYSTEMD)

        assert said(made, "cgroup_version") == "2"
        assert said(made, "cgroup_cpu") == "/compute-bridge.slice/x.service/container"

    def test_the_end_stops_the_unit(self, agent: Agent, recorder: Path):
        agent.ask("create", ON_SYSTEMD)
        # What was recorded of the process is forgotten, or a process of this machine would be killed.
        shutil.rmtree(Path(agent.environment["CB_PROC_ROOT"]) / "4242")
        agent.ask("terminate", {"token": TOKEN})

        assert f"systemctl stop compute-bridge-{TOKEN[:24]}.service" in recorder.read_text().splitlines()

    @pytest.mark.needs("systemd-analyze")
    def test_systemd_takes_the_unit_as_it_is(self, agent: Agent, recorder: Path, tmp_path: Path):
        agent.ask("create", ON_SYSTEMD)
        unit = next(line for line in recorder.read_text().splitlines() if "start --attach" in line)
        lines = [f"{key}={value}" for key, value in properties(unit).items() if key != "CollectMode"]
        write(tmp_path / "x.service", "\n".join(["[Service]", *lines, "ExecStart=/bin/true", ""]))
        command = ["systemd-analyze", "verify", str(tmp_path / "x.service")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert [line for line in done.stderr.splitlines() if "x.service" in line] == []


def properties(line: str) -> dict[str, str]:
    words = [word.removeprefix("--property=") for word in line.split() if word.startswith("--property=")]
    return {key: value for key, _, value in (word.partition("=") for word in words)}
