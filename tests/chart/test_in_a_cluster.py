"""The guide's commands with the real helm and kubectl; pods run the real job."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from tests.support.cluster import RUN_NOW, Cluster, shell
from tests.support.hub import REPO, TOKEN, Hub
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosPrediction, RunLog

NAMESPACE = "tradingbots-2025"
HELM_TEST = "helm test tradingbots -n tradingbots-2025 --logs"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "pods") as cluster:
        yield cluster


def install(cluster: Cluster, **values: Any) -> str:
    given = " ".join(
        shlex.join(["--set-json", f"{name.replace('__', '.')}={json.dumps(value)}"])
        for name, value in values.items()
    )
    return shell(
        cluster,
        "helm upgrade --install tradingbots ./helm/tradingbots "
        f"--namespace tradingbots-2025 {given}",
    )


class SharedContainer:
    """A container on the Hub that starts at once, because its Space process already runs."""

    pid = 0

    def __init__(self) -> None:
        self._code: int | None = None

    def poll(self) -> int | None:
        return self._code

    def kill(self) -> None:
        self._code = 137

    def wait(self) -> int:
        return 137


def hub_of(space_url: str) -> Hub:
    def launch(port: int, environ: Mapping[str, str]) -> SharedContainer:
        hub.port = urlsplit(space_url).port or 0
        return SharedContainer()

    hub = Hub(launch=launch)
    return hub


def rows(url: str) -> dict[str, set[datetime]]:
    """Return ticker -> forecast days."""
    with get_db_session(url) as session:
        found: dict[str, set[datetime]] = {}
        for row in session.scalars(select(KronosPrediction)):
            found.setdefault(row.symbol, set()).add(row.target_date)
        return found


def test_the_chart_can_be_installed_and_the_job_run_manually(
    cluster: Cluster, postgres_url: str, space_url: str
) -> None:
    with hub_of(space_url) as hub:
        shell(cluster, shlex.join([
            "kubectl", "create", "secret", "generic", "tradingbot-secrets", "-n", NAMESPACE,
            f"--from-literal=HF_TOKEN={TOKEN}", f"--from-literal=DATABASE_URL={postgres_url}",
        ]))  # fmt: skip
        output = install(cluster, env={
            "HF_ENDPOINT": hub.url, "HF_SPACE_REPO": REPO, "KRONOS_SPACE_URL": hub.space_url,
            "KRONOS_DATA_SOURCE": "sample",
        })  # fmt: skip
        assert "STATUS: deployed" in output
        assert cluster.names("cronjobs") == ["tradingbot-kronos", "tradingbot-kronostrader"]
        notes = output[output.index("NOTES:") :]
        assert all(command in notes for command in RUN_NOW.strip().splitlines())

        log = shell(cluster, RUN_NOW)
        assert (hub.stage, hub.running, hub.starts) == ("PAUSED", False, 1)
    forecasts = rows(postgres_url)
    assert forecasts.keys() == {"AAPL", "GOOG", "IBM", "MSFT"}
    assert all(len(days) == 5 for days in forecasts.values())
    created, *lines = log.splitlines()
    assert re.fullmatch(r"job.batch/test-run-\d+ created", created)
    document = [json.loads(line) for line in lines]  # every line of a pod's log is JSON
    assert document[-1]["exit_code"] == 0
    assert TOKEN not in log
    assert not [path for path in cluster.folder.iterdir() if path.suffix != ".log"], (
        "a pod wrote onto its read-only disk"
    )

    shell(
        cluster, f"kubectl create job --from=cronjob/tradingbot-kronostrader trade -n {NAMESPACE}"
    )
    trades = shell(cluster, f"kubectl logs -f job/trade -n {NAMESPACE}")
    assert "Portfolio" in trades


def test_pods_of_an_indexed_job_share_the_tickers_and_the_space_of_the_cluster(
    cluster: Cluster, postgres_url: str, space_url: str
) -> None:
    cluster.services["http://tradingbots-space:7860"] = space_url
    cluster.secret(NAMESPACE, "tradingbot-secrets", {"DATABASE_URL": postgres_url})
    install(
        cluster,
        space__enabled=True,
        env__KRONOS_DATA_SOURCE="sample",
        bots=[
            {"name": "kronosbot", "schedule": "5 22 * * 1-5", "shards": 2},
            {"name": "kronosbot-status", "schedule": "0 6 * * 2-6", "args": ["status"]},
        ],
    )
    assert cluster.names("deployments") == ["tradingbots-space"]
    shell(cluster, RUN_NOW.rpartition("kubectl logs")[0])
    assert cluster.wait("test-run") == [0, 0]
    assert rows(postgres_url).keys() == {"AAPL", "GOOG", "IBM", "MSFT"}
    with get_db_session(postgres_url) as session:
        runs = session.scalars(select(RunLog)).all()
    done = [run.counts["stored"] for run in runs]
    assert sum(done) == 4
    assert all(count < 4 for count in done), "no pod did all the work"
    shell(
        cluster, f"kubectl create job --from=cronjob/tradingbot-kronos-status look -n {NAMESPACE}"
    )
    assert "4 of 4 active tickers are fresh" in shell(
        cluster, f"kubectl logs -f job/look -n {NAMESPACE}"
    )


def test_helm_test_confirms_database_and_space(
    cluster: Cluster, postgres_url: str, space_url: str
) -> None:
    cluster.services["http://tradingbots-space:7860"] = space_url
    cluster.secret(NAMESPACE, "tradingbot-secrets", {"DATABASE_URL": postgres_url})
    install(cluster, space__enabled=True)
    output = shell(cluster, HELM_TEST)
    assert "Phase:          Succeeded" in output
    assert "its schema is up to date" in output
    assert f"{space_url}/health: kronos-nano is ready" in output


def test_helm_test_accepts_a_sleeping_hub_space_and_rejects_a_missing_one(
    cluster: Cluster, postgres_url: str
) -> None:
    cluster.secret(NAMESPACE, "tradingbot-secrets", {"DATABASE_URL": postgres_url})
    with Hub() as hub:
        install(cluster, env__KRONOS_SPACE_URL=hub.space_url)
        assert "/health is asleep; kronosbot wakes it" in shell(cluster, HELM_TEST)
        install(cluster, env__KRONOS_SPACE_URL=f"{hub.url}/nowhere")
        with pytest.raises(AssertionError, match="/nowhere/health answered 404"):
            shell(cluster, HELM_TEST)


def test_helm_test_fails_without_a_database_and_without_the_space_of_the_cluster(
    cluster: Cluster,
) -> None:
    with Hub() as hub:  # its Space is paused, which a Space in the cluster cannot be
        cluster.services["http://tradingbots-space:7860"] = hub.space_url
        install(cluster, space__enabled=True)
        with pytest.raises(AssertionError) as failure:
            shell(cluster, HELM_TEST)
    assert "no database is configured in the secret or in the values" in str(failure.value)
    assert "/health answered 503" in str(failure.value)


def test_an_upgrade_keeps_the_password_of_the_small_postgres(cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/tradingbots-postgres"
    install(cluster, postgres__enabled=True)
    first = cluster.objects[path]["data"]["POSTGRES_PASSWORD"]
    install(cluster, postgres__enabled=True, postgres__storage="2Gi")
    assert cluster.objects[path]["data"]["POSTGRES_PASSWORD"] == first
    annotations = cluster.objects[path]["metadata"]["annotations"]
    assert annotations["helm.sh/resource-policy"] == "keep", "so does `helm uninstall`"
