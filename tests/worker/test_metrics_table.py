"""The table of metrics in docs/watching.md says what the code says, and so do the dashboard and the alerts."""

import json
import re
from pathlib import Path

import yaml

from worker.metrics_table import PAGE, table, written

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_page_holds_the_table_that_make_docs_writes() -> None:
    page = PAGE.read_text()
    assert written(page) == page, "run `make docs`"


def test_the_page_lists_every_alert_and_no_other() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for rule in group["rules"]}
    assert set(re.findall(r"^\| `(Twinvec\w+)`", PAGE.read_text(), re.MULTILINE)) == alerts


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    known = set(re.findall(r"^\| `(twinvec_\w+)`", table(), re.MULTILINE))
    known |= {f"{name}{end}" for name in known for end in ("_bucket", "_sum", "_count")}
    dashboard = json.loads((DEPLOY / "grafana" / "twinvec.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked = set(re.findall(r"\btwinvec_\w+", " ".join([*expressions, (DEPLOY / "prometheus/alerts.yml").read_text()])))
    assert asked - {"twinvec_failures_total"} <= known
    assert len(asked) > 25


def test_the_dashboard_s_panels_do_not_lie_on_each_other() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "twinvec.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
