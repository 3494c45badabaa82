"""``compute-bridge metrics``: what status tells, in Prometheus' text format, and every metric documented."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from compute_bridge.cli.metrics import METRICS, exposition

PAGE = (Path(__file__).parents[2] / "docs" / "operator" / "metrics.md").read_text()
STATUS = {
    "epoch": 3,
    "draining": False,
    "journal": {"is_writable": True, "reason": "", "sequence": 42},
    "leases": {"open": 2, "by_state": {"delivered": 2}, "refused": {"draining": 1, "quota": 4}},
    "fleet": {
        "backends": {"rack": 5},
        "sweep": {"age_ms": 1500, "backends": {"rack": {"strays": 1, "oldest_orphan_ms": 90_500, "silence": "x"}}},
    },
    "provider": "ab" * 32,
}


def samples():
    families = text_string_to_metric_families(exposition(STATUS))
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_every_figure_that_status_has_is_told_in_base_units() -> None:
    found = samples()

    assert found == {
        ("compute_bridge_epoch",): 3,
        ("compute_bridge_draining",): 0,
        ("compute_bridge_leases_open",): 2,
        ("compute_bridge_leases", "delivered"): 2,
        ("compute_bridge_leases_refused_total", "draining"): 1,
        ("compute_bridge_leases_refused_total", "quota"): 4,
        ("compute_bridge_journal_writable",): 1,
        ("compute_bridge_journal_events_total",): 42,
        ("compute_bridge_offers", "rack"): 5,
        ("compute_bridge_strays", "rack"): 1,
        ("compute_bridge_oldest_orphan_seconds", "rack"): 90.5,
        ("compute_bridge_sweep_age_seconds",): 1.5,
    }


def test_every_metric_is_documented() -> None:
    for metric in METRICS:
        label = f"`{metric.label}`" if metric.label else "-"
        kind = "counter" if metric.rises else "gauge"

        assert f"\n| `{metric.name}` | {kind} | {label} | {metric.help} |\n" in PAGE


def test_no_metric_is_documented_that_is_not() -> None:
    documented = [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")]

    assert [metric.name for metric in METRICS] == documented
