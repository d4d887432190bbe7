"""Render the Helm chart with the real helm."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support import ROOT
from tests.support.kube_tools import tool

Object = dict[str, Any]

CHART = ROOT / "helm" / "tradingbots"
CI = sorted(path.stem.removesuffix("-values") for path in CHART.glob("ci/*-values.yaml"))
NAMESPACE = "tradingbots-2025"


def helm(*arguments: str | Path) -> str:
    """Return helm's output. Raises CalledProcessError with helm's message if helm fails."""
    done = subprocess.run([tool("helm"), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "helm", done.stdout, done.stderr)
    return done.stdout


@cache
def rendered(*arguments: str, ci: str = "default") -> tuple[Object, ...]:
    """Return all manifests; `ci` names a values file, `arguments` are such as --set a=b."""
    values = CHART / "ci" / f"{ci}-values.yaml"
    release = ("template", "tradingbots", CHART, "--namespace", NAMESPACE, "--values", values)
    manifests = helm(*release, *arguments)
    # libyaml parses ten times as fast as Python
    return tuple(filter(None, yaml.load_all(manifests, Loader=yaml.CSafeLoader)))


# resources of the Prometheus Operator, which plain Kubernetes lacks
OF_PROMETHEUS = "monitoring.coreos.com/v1"


def find(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    [found] = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def pods(objects: tuple[Object, ...]) -> dict[str, Object]:
    """Return the pod spec of each workload, by the workload's name."""
    found = {}
    for item in objects:
        match item:
            case {"kind": "CronJob"}:
                found[item["metadata"]["name"]] = item["spec"]["jobTemplate"]["spec"]["template"]
            case {"kind": "Deployment" | "StatefulSet"}:
                found[item["metadata"]["name"]] = item["spec"]["template"]
            case {"kind": "Pod"}:
                found[item["metadata"]["name"]] = item
    return {name: template["spec"] for name, template in found.items()}


def variables(pod: Object) -> dict[str, Any]:
    """Return the environment of the only container: name -> value, or (secret, key)."""
    [container] = pod["containers"]
    found = {}
    for variable in container["env"]:
        assert variable["name"] not in found, f"{variable['name']} is there twice"
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        elif "fieldRef" in variable["valueFrom"]:
            found[variable["name"]] = variable["valueFrom"]["fieldRef"]["fieldPath"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            found[variable["name"]] = (reference["name"], reference["key"])
    return found
