"""The chart's metrics, monitors, alerts and dashboard, with the real helm and promtool."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown.extensions.toc import slugify

from tests.chart.test_rendering import refusal
from tests.support import ROOT
from tests.support.charts import OF_PROMETHEUS, Object, find, pods, rendered, variables
from tests.support.prometheus import promtool
from tradingbot.jobs.status import Status
from tradingbot.monitoring.metrics import families
from tradingbot.monitoring.snapshot import Snapshot

CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_name("alert_cases.yaml").read_text()
)
NOW = datetime(2024, 5, 15)
METRICS = {
    family.name
    for family in families(Snapshot(Status(now=NOW, database="db", clock=NOW)), "1")
}  # fmt: skip


def made() -> tuple[Object, ...]:
    return rendered("--set", "postgres.enabled=true", ci="monitoring")


# the exporter -----------------------------------------------------------------------------


def test_the_exporter_gets_database_and_tickers_but_no_other_secret() -> None:
    given = variables(pods(made())["tradingbots-metrics"])
    assert given == {
        "POD_IP": "status.podIP",
        "KRONOS_EXTRA_SYMBOLS": "SPY,BTC-USD",
        "POSTGRES_HOST": "tradingbots-postgres",
        "POSTGRES_USER": "kronos",
        "POSTGRES_DATABASE": "kronos",
        "POSTGRES_PASSWORD": ("tradingbots-postgres", "POSTGRES_PASSWORD"),
    }
    reference = {"secretKeyRef": {"name": "a", "key": "b"}}
    env = json.dumps({"KRONOS_DATA_SOURCE": "sample", "OPENAI_API_KEY": reference})
    plain = rendered("--set", "metrics.enabled=true", "--set-json", f"env={env}")
    of_secret = variables(pods(plain)["tradingbots-metrics"])
    assert of_secret["DATABASE_URL"] == ("tradingbot-secrets", "DATABASE_URL")
    assert of_secret["KRONOS_DATA_SOURCE"] == "sample"
    assert not {"HF_TOKEN", "KRONOS_API_KEY", "KRONOS_NOTIFY", "OPENAI_API_KEY"} & of_secret.keys()


def test_the_exporter_may_have_separate_credentials() -> None:
    objects = rendered("--set", "metrics.enabled=true,metrics.secretName=reader")
    for name, pod in pods(objects).items():
        [secret, _] = variables(pod)["DATABASE_URL"]
        assert secret == ("reader" if name == "tradingbots-metrics" else "tradingbot-secrets")


def test_the_exporter_is_reachable_through_its_service_and_by_configured_peers() -> None:
    objects = made()
    template = find(objects, "Deployment", "tradingbots-metrics")["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert container["command"][2:] == ["tradingbot.kronosbot", "exporter", "--host", "$(POD_IP)"]
    [port] = container["ports"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    service = find(objects, "Service", "tradingbots-metrics")["spec"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    assert service["ports"][0]["targetPort"] == port["name"]
    policy = find(objects, "NetworkPolicy", "tradingbots-metrics")["spec"]
    [rule] = policy["ingress"]
    assert rule["ports"] == [{"port": port["name"]}]
    assert "monitoring" in json.dumps(rule["from"])
    nobody = rendered("--set-json", "metrics.networkPolicy.from=[]", ci="monitoring")
    assert find(nobody, "NetworkPolicy", "tradingbots-metrics")["spec"]["ingress"] == []
    [to_postgres] = find(objects, "NetworkPolicy", "tradingbots-postgres")["spec"]["ingress"]
    assert {"app.kubernetes.io/component": "metrics"}.items() <= (
        to_postgres["from"][1]["podSelector"]["matchLabels"].items()
    )


# monitors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
@pytest.mark.parametrize("component", ["metrics", "space"])
def test_a_monitor_selects_its_targets(kind: str, component: str) -> None:
    values = [
        f"{component}.enabled=true",
        *(f"{component}.{item[0].lower()}{item[1:]}.enabled={str(item == kind).lower()}"
          for item in ("ServiceMonitor", "PodMonitor")),
    ]  # fmt: skip
    objects = rendered("--set", ",".join(values))
    [monitor] = [item for item in objects if item["apiVersion"] == OF_PROMETHEUS]
    assert (monitor["kind"], monitor["metadata"]["name"]) == (kind, f"tradingbots-{component}")
    labels = monitor["spec"]["selector"]["matchLabels"].items()
    if kind == "ServiceMonitor":
        [endpoint] = monitor["spec"]["endpoints"]
        [found] = [item for item in objects if item["kind"] == "Service"
                   and labels <= item["metadata"]["labels"].items()]  # fmt: skip
        ports = found["spec"]["ports"]
    else:
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        [found] = [
            item
            for item in objects
            if item["kind"] == "Deployment"
            and labels <= item["spec"]["template"]["metadata"]["labels"].items()
        ]
        ports = found["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert endpoint == {"port": ports[0]["name"], "path": "/metrics", "interval": "60s"}


def test_the_space_is_scraped_with_its_key_if_configured() -> None:
    [endpoint] = find(made(), "PodMonitor", "tradingbots-space")["spec"]["podMetricsEndpoints"]
    key = {"name": "tradingbot-secrets", "key": "KRONOS_API_KEY"}
    assert endpoint["authorization"] == {"credentials": key}


def test_nothing_is_scraped_twice_and_monitoring_is_optional() -> None:
    both = "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true"
    assert "would scrape the same pods twice" in refusal("--set", f"metrics.enabled=true,{both}")
    kinds = {(item["apiVersion"], item["kind"]) for item in rendered()}
    assert not {kind for api, kind in kinds if api == OF_PROMETHEUS}
    assert not {"ConfigMap", "Deployment"} & {kind for _, kind in kinds}


# alerts -----------------------------------------------------------------------------------


def alerts(*arguments: str) -> list[Object]:
    rule = find(rendered(*arguments, ci="monitoring"), "PrometheusRule", "tradingbots-alerts")
    [group] = rule["spec"]["groups"]
    rules: list[Object] = group["rules"]
    return rules


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "kronosbot", "rules": alerts()}]}))
    assert f"{len(CASES)} rules found" in promtool("check", "rules", "--lint-fatal", file)


def test_every_alert_has_a_firing_and_a_silent_test_case() -> None:
    assert [rule["alert"] for rule in alerts()] == list(CASES)
    for name, cases in CASES.items():
        assert {case["fires"] for case in cases} == {True, False}, name


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    files = []
    for rule in alerts():  # one at a time: promtool evaluates all rules of a file for each test
        name = rule["alert"]
        rules = {"groups": [{"name": "kronosbot", "rules": [rule]}]}
        tests = {
            "rule_files": [f"{name}.rules"],
            "evaluation_interval": "5m",
            "tests": [unit_test(rule, case) for case in CASES[name]],
        }
        (tmp_path / f"{name}.rules").write_text(yaml.safe_dump(rules))
        files.append(tmp_path / f"{name}.tests")
        files[-1].write_text(yaml.safe_dump(tests))
    assert promtool("test", "rules", *files).count("SUCCESS") == len(CASES)


def unit_test(rule: Object, case: dict[str, Any]) -> Object:
    """Return a promtool test that checks whether an alert fires, whatever its text."""
    fires = f'count(ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}}) or vector(0)'
    return {
        "name": f"{rule['alert']}: {case['why']}",
        "interval": "5m",
        "input_series": [
            {"series": name, "values": str(values)} for name, values in case["series"].items()
        ],
        "promql_expr_test": [
            {"expr": fires, "eval_time": case["at"],
             "exp_samples": [{"labels": "{}", "value": int(case["fires"])}]}
        ],
    }  # fmt: skip


def test_every_alert_links_to_an_existing_runbook_section() -> None:
    page = (ROOT / "docs/operations/runbook.md").read_text()
    anchors = {slugify(title, "-") for title in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    for rule in alerts():
        page_url, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page_url.endswith("/docs/operations/runbook.md")
        assert anchor in anchors, rule["alert"]
        assert {"summary", "description"} <= rule["annotations"].keys()
        assert rule["labels"]["severity"] in ("warning", "critical")
    [elsewhere, *_] = alerts("--set", "alerts.runbookURL=https://docs.example.org/runbook/")
    assert elsewhere["annotations"]["runbook_url"] == (
        "https://docs.example.org/runbook/#kronosbotmetricsmissing"
    )


def test_values_configure_the_alerts() -> None:
    by_name = {rule["alert"]: rule["expr"] for rule in alerts("--set", "alerts.jobMissingHours=50")}
    assert by_name["KronosbotJobMissing"].endswith("> 180000")
    kept_running = alerts("--set", "bots[0].env.KRONOS_PAUSE=never")
    assert {rule["alert"] for rule in kept_running} == by_name.keys() - {"KronosbotSpaceRunning"}


# the dashboard ----------------------------------------------------------------------------


def dashboard() -> Object:
    config = find(made(), "ConfigMap", "tradingbots-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    [(name, text)] = config["data"].items()
    assert name.endswith(".json")
    found: Object = json.loads(text)
    return found


def test_the_panels_of_the_dashboard_have_a_place_a_title_and_a_unit_each() -> None:
    panels = dashboard()["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        assert not set(cells(one)) & set(cells(other))
        assert one["x"] + one["w"] <= 24


def cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_dashboard_and_alerts_use_existing_metrics_and_the_docs_list_all() -> None:
    asked = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for rule in alerts()]
    named = {name for expression in asked for name in re.findall(r"kronosbot_\w+", expression)}
    assert named <= METRICS
    page = (ROOT / "docs/operations/monitoring.md").read_text()
    assert set(re.findall(r"^\| `(kronosbot_\w+)` \|", page, re.MULTILINE)) == METRICS
