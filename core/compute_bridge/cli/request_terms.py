"""The options of ``compute-bridge request submit``: what is asked for, and on which terms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from compute_bridge.cli.options import Decorator
from compute_bridge.cli.quantities import CPU, DURATION, MEMORY
from compute_bridge.model.manifest import ComputeManifest, ImageRef, SourceRef
from compute_bridge.model.resources import NetworkPolicy, Region, Requirements, Resources, TdxNeed
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.ports.errors import BootFileError, RecordError
from compute_bridge.wire.keys import require_ssh_public_line

OWN_KEY = "~/.ssh/id_ed25519.pub"
MAX_KEY_BYTES = 4096
BARE_MACHINE = ("bare-machine", "0", "0000000")
"""The source of a workload that has none: whoever only wants to log in."""


@frozen
class Asked:
    """What ``submit`` was asked for. ``ssh_key`` is empty where the bridge shall make a key."""

    manifest: ComputeManifest
    max_rate: MicrosPerHour
    ssh_key: str
    identity: str
    preferred: tuple[Region, ...]
    open_ms: Milliseconds


_OPTIONS: tuple[Decorator, ...] = (
    click.option("--image", required=True, help="oci@sha256:<64 hex digits>, or vm:<name>."),
    click.option("--max-rate", type=click.IntRange(1), required=True, help="At most this many micros an hour."),
    click.option("--duration", type=DURATION, required=True, help="How long it may run, such as 10m."),
    click.option("--cpu", type=CPU, default="1", show_default=True, help="vCPUs, such as 2 or 0.5."),
    click.option("--mem", type=MEMORY, default="1GiB", show_default=True, help="RAM, such as 512MiB."),
    click.option("--disk", type=click.IntRange(0), default=0, show_default=True, help="Disk in GiB."),
    click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs."),
    click.option("--tdx", type=click.Choice([one.value for one in TdxNeed]), default="none", show_default=True),
    click.option(
        "--network", type=click.Choice([one.value for one in NetworkPolicy]), default="isolated", show_default=True
    ),
    click.option("--egress", type=click.IntRange(0), default=0, show_default=True, help="Outward traffic in GiB."),
    click.option("--region", "regions", multiple=True, help="Where it may run; may be given again. None means any."),
    click.option("--prefer", "preferred", multiple=True, help="A region to prefer; may be given again, best first."),
    click.option(
        "--source",
        nargs=3,
        default=BARE_MACHINE,
        metavar="NAME VERSION COMMIT",
        help="Where the workload's source lies; only the winner reads it.",
    ),
    click.option(
        "--ssh-key",
        type=click.Path(path_type=Path),
        is_flag=False,
        flag_value=OWN_KEY,
        help=f"Your public key file; without a file it is {OWN_KEY}. Left out, the bridge makes a key and knows it.",
    ),
    click.option("--open-for", type=DURATION, default="60s", show_default=True, help="How long to look for a winner."),
)


def terms_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of :func:`asked` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked(
    *,
    image: str,
    max_rate: int,
    duration: int,
    cpu: int,
    mem: int,
    disk: int,
    gpus: int,
    tdx: str,
    network: str,
    egress: int,
    regions: tuple[str, ...],
    preferred: tuple[str, ...],
    source: tuple[str, str, str],
    ssh_key: Path | None,
    open_for: int,
) -> Asked:
    """Return what the options say.

    :raises click.UsageError: if they are no request that any market could take.
    """
    try:
        needs = Requirements(
            resources=Resources(cpu, mem, disk, gpus),
            duration_ms=Milliseconds(duration),
            tdx=TdxNeed(tdx),
            network=NetworkPolicy(network),
            regions=tuple(sorted({Region(one) for one in regions})),
            egress_gib=egress,
        )
        manifest = ComputeManifest(SourceRef(*source), ImageRef(image), needs)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    line, identity = read_public_key(ssh_key) if ssh_key else ("", "")
    preferences = tuple(Region(one) for one in preferred)
    return Asked(manifest, MicrosPerHour(max_rate), line, identity, preferences, Milliseconds(open_for))


def read_public_key(path: Path) -> tuple[str, str]:
    """Return the public key line in ``path``, and the path of its private half, if that lies beside it.

    :raises BootFileError: if the file cannot be read or holds no public key.
    """
    path = path.expanduser().absolute()
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_KEY_BYTES + 1)
        line = require_ssh_public_line(raw.decode())
    except OSError as error:
        raise BootFileError(f"--ssh-key {path}: {error.strerror}; make one with ssh-keygen -t ed25519") from error
    except (UnicodeDecodeError, RecordError) as error:
        raise BootFileError(f"--ssh-key {path}: holds no SSH public key; name the .pub file") from error
    private = path.with_suffix("")
    return line, str(private) if path.suffix == ".pub" and private.exists() else ""
