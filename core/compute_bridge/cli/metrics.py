"""``compute-bridge metrics``: the running bridge's figures in the text format that Prometheus reads."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from compute_bridge.adapters.boot_file import load_boot
from compute_bridge.adapters.status_socket import SOCKET, ask
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import config_option, set_option
from compute_bridge.ports.command import CommandContext


class Metric(NamedTuple):
    """One figure: its name, whether it only rises, what it tells, and where ``status`` has it.

    A ``*`` in ``path`` stands for every key there, which becomes the value of ``label``. ``scale`` brings the
    figure to the base unit that its name ends in.
    """

    name: str
    rises: bool
    help: str
    path: str
    label: str = ""
    scale: float = 1


METRICS: Final = (
    Metric("compute_bridge_epoch", False, "epoch of this boot", "epoch"),
    Metric("compute_bridge_tick", False, "latest almanac tick seen", "tick"),
    Metric("compute_bridge_draining", False, "1 while no new grants are taken on command", "draining"),
    Metric("compute_bridge_card_admitted", False, "1 when a card of this boot is admitted", "card.admitted"),
    Metric("compute_bridge_leases_open", False, "leases that are not settled yet", "leases.open"),
    Metric("compute_bridge_leases", False, "open leases by state", "leases.by_state.*", "state"),
    Metric("compute_bridge_leases_ended_total", True, "leases served since the start", "leases.ended"),
    Metric("compute_bridge_leases_refused_total", True, "grants not served since then", "leases.refused.*", "reason"),
    Metric("compute_bridge_logs_waiting", False, "usage logs that wait for the network", "leases.logs_waiting"),
    Metric("compute_bridge_journal_writable", False, "0 while no event can be recorded", "journal.is_writable"),
    Metric("compute_bridge_journal_events_total", True, "events in the journal", "journal.sequence"),
    Metric("compute_bridge_journal_bytes", False, "size of the journal's files", "journal.file_bytes"),
    Metric("compute_bridge_journal_room_bytes", False, "what they may still grow", "journal.room_bytes"),
    Metric("compute_bridge_offers", False, "offers known now", "fleet.backends.*", "backend"),
    Metric(
        "compute_bridge_catalog_age_seconds", False, "age of the catalog in use",
        "fleet.catalogs.*.age_ms", "backend", 0.001,
    ),
    Metric("compute_bridge_catalog_rows", False, "rows of the catalog in use", "fleet.catalogs.*.rows", "backend"),
    Metric(
        "compute_bridge_catalog_left_out", False, "rows left out of the last one",
        "fleet.catalogs.*.left_out", "backend",
    ),
    Metric(
        "compute_bridge_catalog_failures", False, "attempts that failed since the last good one",
        "fleet.catalogs.*.failures", "backend",
    ),
    Metric(
        "compute_bridge_strays", False, "machines of no open lease in the last listing",
        "fleet.sweep.backends.*.strays", "backend",
    ),
    Metric(
        "compute_bridge_oldest_orphan_seconds", False, "for how long the oldest of them has been seen",
        "fleet.sweep.backends.*.oldest_orphan_ms", "backend", 0.001,
    ),
    Metric(
        "compute_bridge_machines_missing", False, "open leases whose machine was in no listing",
        "fleet.sweep.backends.*.missing", "backend",
    ),
    Metric(
        "compute_bridge_backend_silent_seconds", False, "for how long a backend has not told its machines",
        "fleet.sweep.backends.*.silent_ms", "backend", 0.001,
    ),
    Metric("compute_bridge_sweep_age_seconds", False, "age of the last sweep", "fleet.sweep.age_ms", "", 0.001),
    Metric("compute_bridge_reaped_total", True, "strays written down as reaped since the start", "fleet.sweep.reaped"),
    Metric("compute_bridge_lost_total", True, "leases ended since their machine was gone", "fleet.sweep.lost"),
    Metric("compute_bridge_settled_micros", False, "what the agreed statements owe us", "settled_micros"),
    Metric("compute_bridge_dropped_records_total", True, "records read that were not the module's", "dropped_records"),
)  # fmt: skip
"""Every metric, in the order in which it is printed."""


def metrics(context: CommandContext) -> int:
    """Run ``compute-bridge metrics``."""
    return int(_metrics.main(context.arguments, "compute-bridge metrics", standalone_mode=False) or 0)


@click.command(name="metrics")
@config_option
@set_option
def _metrics(config: Path, flags: Mapping[str, str]) -> int:
    """Print the running bridge's figures for Prometheus; write them to a textfile collector's folder now and then.

    Aggregates only, nothing of any requester.
    """
    state_dir = Path(load_boot(config, flags=flags).boot.bridge.state_dir)
    say(exposition(ask(state_dir / SOCKET, {"ask": "status"})).rstrip("\n"))
    return Exit.OK


def exposition(status: Mapping[str, Any]) -> str:
    """Return the figures of a ``status`` in Prometheus' text format; a figure that it lacks is left out."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    class Figures:
        def collect(self) -> Iterator[Any]:
            for metric in METRICS:
                family = CounterMetricFamily if metric.rises else GaugeMetricFamily
                made = family(metric.name, metric.help, labels=[metric.label] if metric.label else [])
                for label, value in _figures(status, metric.path.split(".")):
                    made.add_metric([label] if metric.label else [], float(value) * metric.scale)
                yield made

    registry = CollectorRegistry()
    registry.register(Figures())
    return generate_latest(registry).decode()


def _figures(tree: Any, path: list[str], label: str = "") -> Iterator[tuple[str, float]]:
    if not path:
        if isinstance(tree, int | float):
            yield label, tree
    elif isinstance(tree, Mapping):
        for key in tree if path[0] == "*" else [path[0]]:
            if key in tree:
                yield from _figures(tree[key], path[1:], key if path[0] == "*" else label)
