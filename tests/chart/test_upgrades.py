"""The chart of the previous release is upgraded with the real helm."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import DATA
from tests.support.charts import CHART, helm
from tests.support.cluster import Cluster, shell

OLD = DATA / "upgrades" / "0.1.0-chart.tgz"
UPGRADE = "helm upgrade --install tradingbots {chart} --namespace tradingbots-2025 {options}"
EVERYTHING = "--set postgres.enabled=true --set space.enabled=true --set-string image.tag=old"
REMEDY = "--reset-then-reuse-values"


@pytest.fixture
def installed(tmp_path: Path) -> Any:
    """A cluster with all of the chart of version 0.1.0."""
    with Cluster(tmp_path / "pods") as cluster:
        shell(cluster, UPGRADE.format(chart=OLD, options=EVERYTHING))
        yield cluster


def image_of(cluster: Cluster) -> str:
    path = "/apis/batch/v1/namespaces/tradingbots-2025/cronjobs/tradingbot-kronos"
    spec = cluster.objects[path]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    image: str = spec["containers"][0]["image"]
    return image


def test_an_upgrade_keeps_the_values_and_the_generated_password(installed: Cluster) -> None:
    secret = "/api/v1/namespaces/tradingbots-2025/secrets/tradingbots-postgres"
    password = installed.objects[secret]["data"]["POSTGRES_PASSWORD"]
    output = shell(installed, UPGRADE.format(chart=CHART, options=REMEDY))
    assert "has been upgraded" in output
    assert image_of(installed) == "kronos-tradingbots:old"
    assert "tradingbots-space" in installed.names("deployments")
    assert installed.objects[secret]["data"]["POSTGRES_PASSWORD"] == password


def test_immutable_selectors_are_unchanged(installed: Cluster) -> None:
    fixed = ("deployments", "statefulsets")
    before = {
        path: made["spec"]["selector"] for path, made in installed.objects.items()
        if path.rsplit("/", 2)[1] in fixed
    }  # fmt: skip
    assert len(before) == 2
    shell(installed, UPGRADE.format(chart=CHART, options=EVERYTHING))
    for path, selector in before.items():
        assert installed.objects[path]["spec"]["selector"] == selector


def test_values_of_the_old_chart_are_refused_and_the_message_says_what_to_write(
    installed: Cluster,
) -> None:
    with pytest.raises(AssertionError, match=rf"{REMEDY}"):
        shell(installed, UPGRADE.format(chart=CHART, options="--reuse-values"))


def old_values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(helm("show", "values", OLD))
    return values


def newer(new: dict[str, Any], old: dict[str, Any], path: str = "") -> list[str]:
    """Return the keys, as a.b, that only the new values have; a new map counts as one key."""
    found = []
    for key, value in new.items():
        if key not in old:
            found.append(f"{path}{key}")
        elif isinstance(value, dict) and isinstance(old[key], dict):
            found += newer(value, old[key], f"{path}{key}.")
    return found


NEWER = newer(yaml.safe_load((CHART / "values.yaml").read_text()), old_values())


@pytest.mark.parametrize("key", NEWER)
def test_a_missing_new_key_is_named_in_the_error(key: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm("template", "tradingbots", CHART, "--set", f"{key}=null")
    assert f"the values have no {key}" in refused.value.stderr
    assert REMEDY in refused.value.stderr
