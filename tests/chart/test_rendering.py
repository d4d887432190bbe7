"""What the chart makes of its values, by the real helm, against the schemas of Kubernetes."""

import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from kronos_space.settings import Settings as SpaceSettings
from tests.support import ROOT
from tests.support.charts import CHART, CI, NAMESPACE, Object, find, helm, pods, rendered, variables
from tradingbot import __version__
from tradingbot.persistence.url import database_url
from tradingbot.settings import Settings, Timeouts

DATABASE = {
    "DATABASE_URL", "POSTGRES_URI", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER",
    "POSTGRES_PASSWORD", "POSTGRES_DATABASE",
}  # fmt: skip


def cronjob(name: str, *arguments: str, ci: str = "default") -> Object:
    return find(rendered(*arguments, ci=ci), "CronJob", name)


# all of it --------------------------------------------------------------------------------


@pytest.mark.parametrize("ci", CI)
def test_helm_lints_it_strictly(ci: str) -> None:
    said = helm("lint", "--strict", CHART, "--values", CHART / "ci" / f"{ci}-values.yaml")
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize("ci", CI)
def test_every_manifest_is_one_that_kubernetes_takes(ci: str) -> None:
    for manifest in rendered(ci=ci):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_found() -> None:
    manifest = yaml.safe_load(yaml.safe_dump(cronjob("tradingbot-kronos")))
    manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


@pytest.mark.parametrize("ci", CI)
def test_every_object_is_labelled_and_in_the_namespace(ci: str) -> None:
    for one in rendered(ci=ci):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "tradingbots"
        assert labels["app.kubernetes.io/instance"] == "tradingbots"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/part-of"] == "kronos"
        assert labels["app.kubernetes.io/component"] in ("bot", "space", "postgres", "test")
        assert labels["app.kubernetes.io/version"] == __version__
        assert labels["helm.sh/chart"].startswith("tradingbots-")
        assert one["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize("ci", CI)
def test_every_pod_is_held_as_short_as_it_can_be(ci: str) -> None:
    for name, pod in pods(rendered(ci=ci)).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] >= 999, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], name
        assert {"name": "tmp", "emptyDir": {}} in pod["volumes"], name
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name


# the bots ---------------------------------------------------------------------------------


def test_kronosbot_is_the_nightly_cronjob_tradingbot_kronos() -> None:
    spec = cronjob("tradingbot-kronos")["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("5 22 * * 1-5", "Etc/UTC")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] > 0
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 3)
    assert spec["suspend"] is False
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 1
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    [container] = job["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "tradingbot.kronosbot"]
    assert container["image"] == f"kronos-tradingbots:{__version__}"
    assert container["resources"]["limits"] == {"memory": "2Gi"}


def test_the_space_is_paused_within_the_grace_period() -> None:
    """A deadline or a drained node is SIGTERM, and SIGKILL after the grace period."""
    job = cronjob("tradingbot-kronos")["spec"]["jobTemplate"]["spec"]
    pausing = Timeouts().hub_pause_after_signal + Timeouts().hub_answer
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] >= 2 * pausing
    assert job["activeDeadlineSeconds"] > Settings().wake_timeout + 600


def test_a_wrong_setting_is_not_tried_again_and_a_drained_node_is_no_failure() -> None:
    job = cronjob("tradingbot-kronos")["spec"]["jobTemplate"]["spec"]
    assert job["podReplacementPolicy"] == "Failed", "else two would be at work at once"
    wrong, drained = job["podFailurePolicy"]["rules"]
    assert wrong["action"] == "FailJob"
    assert wrong["onExitCodes"] == {"containerName": "bot", "operator": "In", "values": [2]}
    assert job["template"]["spec"]["containers"][0]["name"] == "bot"
    assert (drained["action"], drained["onPodConditions"][0]["type"]) == (
        "Ignore", "DisruptionTarget",
    )  # fmt: skip


def test_kronostraderbot_runs_when_kronosbot_has_come_to_its_end() -> None:
    first, second = cronjob("tradingbot-kronos"), cronjob("tradingbot-kronostrader")
    [container] = pods((second,))["tradingbot-kronostrader"]["containers"]
    assert container["command"] == ["python", "-m", "tradingbot.kronostraderbot"]
    deadline = first["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    assert at(first) + timedelta(seconds=deadline) <= at(second)
    assert first["spec"]["schedule"].split()[2:] == second["spec"]["schedule"].split()[2:]


def at(job: Object) -> timedelta:
    minute, hour, *_ = job["spec"]["schedule"].split()
    return timedelta(hours=int(hour), minutes=int(minute))


def test_a_bot_of_ones_own_has_its_own_image_program_settings_and_memory() -> None:
    bots = rendered(ci="bots")
    pod = pods(bots)["tradingbot-advisor"]
    [container] = pod["containers"]
    assert container["image"] == "registry.example.org/advisor:7"
    assert container["command"] == ["python", "-m", "advisor"]
    assert container["args"] == ["--symbols", "SPY,QQQ"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"},
    }  # fmt: skip
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert variables(pod)["KRONOS_HORIZON"] == "3"
    assert variables(pod)["OPENAI_API_KEY"] == ("advisor", "OPENAI_API_KEY")
    others = {name: variables(pod) for name, pod in pods(bots).items() if "advisor" not in name}
    assert not any("OPENAI_API_KEY" in names for names in others.values())
    assert others["tradingbot-kronos"]["KRONOS_HORIZON"] == "10"
    assert others["tradingbot-kronos"]["KRONOS_PAUSE"] == "if-woken"
    assert "KRONOS_PAUSE" not in others["tradingbot-kronostrader"]
    assert find(bots, "CronJob", "tradingbot-kronostrader")["spec"]["suspend"] is True


def test_an_entry_with_its_own_args_runs_another_command_of_the_same_program() -> None:
    pod = pods(rendered(ci="bots"))["tradingbot-kronos-status"]
    [container] = pod["containers"]
    assert container["command"] == ["python", "-m", "tradingbot.kronosbot"]
    assert container["args"] == ["status"]
    assert "HF_TOKEN" not in variables(pod), "it is kronosbot's alone"


def test_a_cronjob_has_its_bots_name_without_bot_and_runs_the_program_before_the_dash() -> None:
    expected = {
        "kronosbot": ("tradingbot-kronos", "tradingbot.kronosbot"),
        "kronosbot-report": ("tradingbot-kronos-report", "tradingbot.kronosbot"),
        "kronosbot-weekly-report": ("tradingbot-kronos-weekly-report", "tradingbot.kronosbot"),
        "trend": ("tradingbot-trend", "tradingbot.trend"),
        "robotics": ("tradingbot-robotics", "tradingbot.robotics"),
        "a-bot": ("tradingbot-a", "tradingbot.a"),
        "x-bot-bot": ("tradingbot-x", "tradingbot.x"),
        "a" * 37 + "bot": ("tradingbot-" + "a" * 37, "tradingbot." + "a" * 37 + "bot"),
    }
    bots = json.dumps([{"name": name, "schedule": "@daily"} for name in expected])
    made = pods(rendered("--set-json", f"bots={bots}"))
    del made["tradingbots-test"]
    assert list(expected.values()) == [
        (name, pod["containers"][0]["command"][2]) for name, pod in made.items()
    ]
    assert all(len(name) <= 52 for name in made), "Kubernetes allows a CronJob no more"


def test_shards_make_it_an_indexed_job_whose_pods_know_their_part() -> None:
    job = cronjob("tradingbot-kronos", ci="shards")["spec"]["jobTemplate"]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 4, 4)
    assert job["backoffLimitPerIndex"] == 1
    assert "backoffLimit" not in job, "it would count all pods together"
    environ = plain(job["template"]["spec"]) | {"JOB_COMPLETION_INDEX": "3"}
    settings = Settings.from_env(environ)
    assert (settings.shards, settings.completion_index) == (4, 3)


@pytest.mark.parametrize("ci", CI)
def test_settings_of_the_bots_are_such_as_they_know(ci: str) -> None:
    for pod in pods(rendered(ci=ci)).values():
        if "tradingbot" in " ".join(pod["containers"][0].get("command", [])):
            Settings.from_env(plain(pod))
            ours = {name for name in plain(pod) if name.startswith(("KRONOS_", "HF_"))}
            assert ours <= {"HF_SPACE_REPO", *known_settings()}


def plain(pod: Object) -> dict[str, str]:
    """The variables that stand in the manifest, and not in a secret."""
    return {name: value for name, value in variables(pod).items() if isinstance(value, str)}


def known_settings() -> set[str]:
    text = "".join(path.read_text() for path in (ROOT / "tradingbot").rglob("*.py"))
    return set(re.findall(r"KRONOS_[A-Z_]+", text))


# who sees what ----------------------------------------------------------------------------


@pytest.mark.parametrize("ci", CI)
def test_the_token_of_the_hub_is_given_to_kronosbot_alone(ci: str) -> None:
    with_token = {
        name for name, pod in pods(rendered(ci=ci)).items() if "HF_TOKEN" in yaml.safe_dump(pod)
    }
    in_cluster = ci in ("space", "shards")
    assert with_token == (set() if in_cluster else {"tradingbot-kronos"})


def test_no_secret_is_needed_for_a_pod_to_start_but_those_that_the_chart_makes() -> None:
    for ci in CI:
        for pod in pods(rendered(ci=ci)).values():
            for variable in pod["containers"][0]["env"]:
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    own = reference["name"] in ("tradingbots-postgres", "advisor")
                    assert reference.get("optional", False) is not own


def test_the_database_is_what_the_secret_says_unless_the_values_say_it() -> None:
    pod = variables(pods(rendered())["tradingbot-kronos"])
    assert {name for name in pod if name in DATABASE} == DATABASE
    assert all(pod[name] == ("tradingbot-secrets", name) for name in DATABASE)

    pod = variables(pods(rendered(ci="database"))["tradingbot-kronos"])
    assert pod["POSTGRES_PASSWORD"] == ("tradingbot-secrets", "POSTGRES_PASSWORD")
    assert "DATABASE_URL" not in pod, "it would go before the values"
    assert database_url({**pod, "POSTGRES_PASSWORD": "s3cret"}) == (
        "postgresql+psycopg2://bots:s3cret@db.example.org:5432/trading"
    )


def test_a_setting_of_the_values_goes_before_that_of_the_secret_and_stands_there_once() -> None:
    given = {
        "DATABASE_URL": "postgresql://db.example.org/trading",
        "KRONOS_API_KEY": {"configMapKeyRef": {"name": "keys", "key": "space"}},
        "KRONOS_HORIZON": {"secretKeyRef": {"name": "mine", "key": "days"}},
    }
    bots = [{"name": "kronosbot", "schedule": "@daily", "shards": 2,
             "env": {"KRONOS_SHARDS": 3, "KRONOS_HORIZON": 7}}]  # fmt: skip
    objects = rendered(
        *("--set-json", f"env={json.dumps(given)}", "--set-json", f"bots={json.dumps(bots)}"),
        *("--set", "space.enabled=true,space.env.KRONOS_API_KEY=plain"),
    )
    [container] = pods(objects)["tradingbot-kronos"]["containers"]
    made = {one.pop("name"): one for one in container["env"]}
    assert len(made) == len(container["env"])
    assert made["DATABASE_URL"] == {"value": given["DATABASE_URL"]}
    assert made["KRONOS_API_KEY"] == {"valueFrom": given["KRONOS_API_KEY"]}
    assert made["KRONOS_HORIZON"] == {"value": "7"}
    assert made["KRONOS_SHARDS"] == {"value": "2"}, "as many as there are pods"
    assert made["POSTGRES_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "tradingbot-secrets"
    assert variables(pods(objects)["tradingbots-space"]) == {"KRONOS_API_KEY": "plain"}


def test_another_secret_may_be_named() -> None:
    pod = pods(rendered("--set", "secretName=mine"))["tradingbot-kronos"]
    secrets = {value[0] for value in variables(pod).values() if isinstance(value, tuple)}
    assert secrets == {"mine"}


# the Space in the cluster -----------------------------------------------------------------


def test_the_space_of_the_cluster_is_where_the_bots_ask() -> None:
    objects = rendered(ci="space")
    deployment = find(objects, "Deployment", "tradingbots-space")["spec"]
    service = find(objects, "Service", "tradingbots-space")["spec"]
    template = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= template.items()
    assert service["selector"].items() <= template.items()
    [container] = deployment["template"]["spec"]["containers"]
    assert container["image"] == f"kronos-space:{__version__}"
    [port] = container["ports"]
    assert (port["name"], port["containerPort"]) == (service["ports"][0]["targetPort"], 7860)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}
    for name in ("tradingbot-kronos", "tradingbot-kronostrader", "tradingbots-test"):
        assert variables(pods(objects)[name])["KRONOS_SPACE_URL"] == "http://tradingbots-space:7860"
    settings = SpaceSettings.from_env(plain(deployment["template"]["spec"]))
    assert (settings.model, settings.dtype) == ("kronos-mini", "auto")
    graceful = deployment["template"]["spec"]["terminationGracePeriodSeconds"]
    assert graceful > container["lifecycle"]["preStop"]["sleep"]["seconds"] + (
        settings.shutdown_timeout
    )


def test_the_space_grows_under_load_and_outlives_a_drained_node() -> None:
    objects = rendered(ci="space")
    scaler = find(objects, "HorizontalPodAutoscaler", "tradingbots-space")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "tradingbots-space"
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 8)
    deployment = find(objects, "Deployment", "tradingbots-space")["spec"]
    assert "replicas" not in deployment, "helm would undo what the autoscaler did"
    assert "cpu" in deployment["template"]["spec"]["containers"][0]["resources"]["requests"]
    budget = find(objects, "PodDisruptionBudget", "tradingbots-space")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert budget["maxUnavailable"] == 1


def test_only_the_bots_and_whom_the_values_name_reach_the_space_which_reaches_nobody() -> None:
    objects = rendered(ci="space")
    policy = find(objects, "NetworkPolicy", "tradingbots-space")["spec"]
    labels = find(objects, "Deployment", "tradingbots-space")["spec"]["template"]["metadata"]
    assert policy["podSelector"]["matchLabels"].items() <= labels["labels"].items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    [rule] = policy["ingress"]
    bots, monitoring = rule["from"]
    assert monitoring["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "monitoring"
    }
    template = cronjob("tradingbot-kronos", ci="space")["spec"]["jobTemplate"]["spec"]["template"]
    test = find(objects, "Pod", "tradingbots-test")
    for allowed in (template, test):
        assert selects(bots["podSelector"], allowed["metadata"]["labels"])
    assert not selects(bots["podSelector"], labels["labels"])
    without = rendered("--set", "space.networkPolicy.enabled=false", ci="space")
    assert "NetworkPolicy" not in {one["kind"] for one in without}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    [expression] = selector["matchExpressions"]
    assert expression["operator"] == "In"
    return selector["matchLabels"].items() <= labels.items() and (
        labels[expression["key"]] in expression["values"]
    )


# Postgres in the cluster ------------------------------------------------------------------


def test_the_small_postgres_is_off_and_where_it_is_on_the_bots_store_there() -> None:
    assert "StatefulSet" not in {one["kind"] for ci in CI if ci != "postgres"
                                 for one in rendered(ci=ci)}  # fmt: skip
    objects = rendered(ci="postgres")
    server = find(objects, "StatefulSet", "tradingbots-postgres")["spec"]
    service = find(objects, "Service", "tradingbots-postgres")["spec"]
    assert service["selector"].items() <= server["template"]["metadata"]["labels"].items()
    [claim] = server["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"] == {"storage": "2Gi"}
    assert claim["spec"]["storageClassName"] == "standard"
    [container] = server["template"]["spec"]["containers"]
    folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    made = variables(server["template"]["spec"])
    assert made["PGDATA"].startswith(folders["data"] + "/")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"][0] == "pg_isready"

    bot = variables(pods(objects)["tradingbot-kronos"])
    assert bot["POSTGRES_PASSWORD"] == made["POSTGRES_PASSWORD"]
    assert bot["POSTGRES_PASSWORD"] == ("tradingbots-postgres", "POSTGRES_PASSWORD")
    assert "DATABASE_URL" not in bot
    assert database_url({**bot, "POSTGRES_PASSWORD": "pw"}) == (
        "postgresql+psycopg2://kronos:pw@tradingbots-postgres/kronos"
    )
    assert (made["POSTGRES_USER"], made["POSTGRES_DB"]) == ("kronos", "kronos")


# what it is told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "spce.enabled=true"], "additional properties 'spce' not allowed"),
        (["--set", "space.enbled=true"], "at '/space': additional properties 'enbled' not allowed"),
        (["--set", "space.enabled=maybe"], "at '/space/enabled': got string, want boolean"),
        (["--set", "bots[0].name=kronosbot,bots[0].schedul=x"],
         "at '/bots/0': additional properties 'schedul' not allowed"),
        (["--set", "bots[0].name=kronosbot"], "at '/bots/0': missing property 'schedule'"),
        (["--set-json", 'bots=[{"name":"Kronos Bot","schedule":"@daily"}]'],
         "at '/bots/0/name': 'Kronos Bot' does not match pattern"),
        (["--set-json", 'bots=[{"name":"abot","schedule":"5 22 * *"}]'],
         "at '/bots/0/schedule': '5 22 * *' does not match pattern"),
        (["--set-json", 'bots=[{"name":"abot","schedule":"@daily","shards":0}]'],
         "at '/bots/0/shards': minimum: got 0, want 1"),
        (["--set-json", 'bots=[{"name":"abot","schedule":"@daily"},'
                        '{"name":"a","schedule":"@daily"}]'],
         "bots: abot and a would both be the CronJob tradingbot-a"),
        (["--set-json", "bots=[]"], "at '/bots': minItems: got 0, want 1"),
        (["--set", "env.HF_TOKEN=hf_x"], "env: HF_TOKEN does not belong here"),
        (["--set-json", 'env.A={"valueFrom":{}}'],
         "at '/env/A': additional properties 'valueFrom' not allowed"),
        (["--set", "env.KRONOS-HORIZON=3"], "'KRONOS-HORIZON' does not match pattern"),
        (["--set", "image.pullPolicy=always"], "at '/image/pullPolicy': value must be one of"),
        (["--set", "resources.limit.memory=1Gi"], "additional properties 'limit' not allowed"),
        (["--set", "database.port=5432x"], "at '/database/port': got string, want integer"),
        (["--set-json", 'bots=[{"name":"abot","schedule":"@daily","command":[]}]'],
         "at '/bots/0/command': minItems: got 0, want 1"),
        (["--set-json", 'bots=[{"name":"bot-a","schedule":"@daily"}]'],
         "bots: bot-a: nothing stands before"),
        (["--set-json", 'bots=[{"name":"abot","schedule":"TZ=UTC 5 22 * *"}]'],
         "at '/bots/0/schedule': 'TZ=UTC 5 22 * *' does not match pattern"),
        (["--set", "startingDeadlineSeconds=null"], "missing property 'startingDeadlineSeconds'"),
        (["--set", "image.pullPolicy=null"], "at '/image': missing property 'pullPolicy'"),
        (["--set", "space=null"], "missing property 'space'"),
        (["--set", "space.autoscaling=null"], "at '/space': missing property 'autoscaling'"),
        (["--set", "postgres.resources=null"], "at '/postgres': missing property 'resources'"),
        (["--set", "space.enabled=true,space.autoscaling.minReplicas=5"],
         "space.autoscaling: minReplicas 5 is above maxReplicas 4"),
        (["--set", "postgres.enabled=true,database.host=db"],
         "postgres.enabled and database.host name two databases"),
        (["--set", "database.host=db"], "database: host, user and name belong together"),
        (["--set", "database.user=me,database.name=trading"],
         "database: host, user and name belong together"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused_with_its_name(
    arguments: list[str], says: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        helm("template", "tradingbots", CHART, *arguments)
    assert says in refusal.value.stderr


@pytest.mark.parametrize("name", ["2025bots", "my.bots"])
def test_a_release_by_which_no_service_can_be_named_is_refused_where_there_is_one(
    name: str,
) -> None:
    helm("template", name, CHART)
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        helm("template", name, CHART, "--set", "space.enabled=true")
    assert f"release {name}: Services are named by it" in refusal.value.stderr


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({}, {"HF_TOKEN", "DATABASE_URL"}),
        ({"database": {"host": "db", "user": "me", "name": "trading"}},
         {"HF_TOKEN", "POSTGRES_PASSWORD"}),
        ({"postgres": {"enabled": True}}, {"HF_TOKEN"}),
        ({"space": {"enabled": True}}, {"DATABASE_URL"}),
        ({"space": {"enabled": True}, "postgres": {"enabled": True}}, set()),
    ],
)  # fmt: skip
def test_the_notes_ask_for_those_keys_of_the_secret_that_are_needed(
    values: Object, keys: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    said = helm("install", "tradingbots", CHART, "--dry-run=client", "-n", NAMESPACE, "-f", file)
    notes = said[said.index("NOTES:") :]
    assert set(re.findall(r"--from-literal=(\w+)", notes)) == keys
    assert ("is missing" in notes) is bool(keys)


def test_numbers_and_truths_among_the_settings_stay_what_they_look_like() -> None:
    values = '{"A":1000000,"B":0.5,"C":true,"D":"5","E":""}'
    environ = variables(pods(rendered("--set-json", f"env={values}"))["tradingbot-kronos"])
    assert [environ[name] for name in "ABCDE"] == ["1000000", "0.5", "true", "5", ""]


def test_a_bot_s_own_volumes_come_beside_tmp() -> None:
    report = pods(rendered(ci="report"))["tradingbot-kronos-report"]
    [container] = report["containers"]
    assert container["args"] == ["report", "--out", "/reports/index.html"]
    assert container["volumeMounts"] == [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "reports", "mountPath": "/reports"},
    ]
    assert report["volumes"][1] == {
        "name": "reports",
        "persistentVolumeClaim": {"claimName": "kronos-reports"},
    }
    of_the_job = pods(rendered(ci="report"))["tradingbot-kronos"]
    assert [volume["name"] for volume in of_the_job["volumes"]] == ["tmp"]


def test_every_value_is_documented_by_itself_or_with_what_holds_it() -> None:
    documented: dict[int, bool] = {}  # of the keys around: indent -> whether it is
    comment = ""
    for number, line in enumerate((CHART / "values.yaml").read_text().splitlines(), start=1):
        if line.strip().startswith("#"):
            comment += line
            continue
        if found := re.match(r"( *)(\w+):(.*)", line):
            indent, key, value = len(found[1]), found[2], found[3]
            documented = {at: it for at, it in documented.items() if at < indent}
            documented[indent] = "# -- " in comment
            assert not value or any(documented.values()), f"values.yaml:{number}: {key}"
        comment = ""


def test_the_chart_is_of_the_version_of_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
