"""A Kubernetes API for tests: stores what the real helm and kubectl send, and runs a Job's pods.

It is not Kubernetes. It answers the requests with which helm and kubectl install a chart, create a
Job from a CronJob, follow its log and run `helm test`. A pod is a process on this machine with the
command, the arguments and the environment of its container; secrets come from the stored objects.
Images, security contexts and scheduling are not simulated; `make image-test` runs the image.
"""

import base64
import json
import os
import subprocess
import sys
import threading
import uuid
from copy import deepcopy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

from tests.support import ROOT
from tests.support.http_server import Server
from tests.support.kube_api import ClusterHandler, Object, kind_of
from tests.support.kube_protobuf import fields
from tests.support.kube_tools import tool

RUN_NOW = """
RUN=test-run-$(date +%s)
kubectl create job --from=cronjob/tradingbot-kronos $RUN -n tradingbots-2025
kubectl logs -f job/$RUN -n tradingbots-2025
"""


class Cluster:
    """A fake cluster, reached at `url` by any client; its processes run in `folder`.

    `objects` maps a path such as /apis/batch/v1/namespaces/bots/cronjobs/tradingbot-kronos to an
    object.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.services: dict[str, str] = {}  # address in the cluster -> address on this machine
        self.objects: dict[str, Object] = {}
        self._pods: dict[str, subprocess.Popen[bytes]] = {}  # by path of the pod
        self.closing = threading.Event()
        self._lock = threading.RLock()
        self._server = Server(("127.0.0.1", 0), partial(ClusterHandler, self))
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closing.set()
        self._server.stop()
        for process in self._pods.values():
            process.kill()
            process.wait()

    def names(self, plural: str) -> list[str]:
        """Return the names of all objects of a kind."""
        paths = [path.rsplit("/", 2) for path in self.objects]
        return sorted(name for _, kind, name in paths if kind == plural)

    def wait(self, job: str) -> list[int]:
        """Wait until all pods of a Job have ended; return their exit codes."""
        pods = [path for path in self._pods if path.rsplit("/", 1)[1].startswith(f"{job}-")]
        return [self._pods[path].wait(timeout=120) for path in pods]

    def secret(self, namespace: str, name: str, data: dict[str, str]) -> None:
        """Store a secret as `kubectl create secret generic` does."""
        coded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        self._put(f"/api/v1/namespaces/{namespace}/secrets/{name}", {"data": coded})

    # the API ------------------------------------------------------------------------------

    def find(self, path: str, selector: str) -> list[Object]:
        """Return the objects below a path whose labels match a selector such as a=b,c=d."""
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        with self._lock:
            below = [key for key in sorted(self.objects) if key.rpartition("/")[0] == path]
            found = [self._current(key) for key in below]
        return [item for item in found if wanted.items() <= item["metadata"]["labels"].items()]

    def get(self, path: str) -> Object | None:
        with self._lock:
            return self._current(path) if path in self.objects else None

    def create(self, path: str, made: Object) -> Object:
        with self._lock:
            self._put(path, made)
            if path.rsplit("/", 2)[1] == "jobs":
                self._start_job(path)
            if path.rsplit("/", 2)[1] == "pods":
                self._start_pod(path)
            return self._current(path)

    def job(self, message: bytes) -> Object:
        """Create the Job that `kubectl create job --from` sends, in protobuf, for a CronJob.

        Only name and owner are read from the message; the rest is copied from the owner's template.
        """
        [metadata] = map(fields, fields(message)[1])
        [owner] = map(fields, metadata[13])
        [path] = [
            path for path in self.objects if path.endswith(f"/cronjobs/{owner[3][0].decode()}")
        ]
        template: Object = deepcopy(self.objects[path]["spec"]["jobTemplate"])
        template["metadata"]["name"] = metadata[1][0].decode()
        return template

    def delete(self, path: str) -> None:
        with self._lock:
            self.objects.pop(path, None)
            if process := self._pods.pop(path, None):
                process.kill()
                process.wait()

    def log(self, path: str) -> Path:
        return self.folder / f"{path.rsplit('/', 1)[1]}.log"

    def ended(self, path: str) -> bool:
        return self._pods[path].poll() is not None

    def _put(self, path: str, made: Object) -> None:
        api, kind = kind_of(path)
        *_, namespace, _, name = path.split("/")
        old = self.objects.get(path, {}).get("metadata", {})
        metadata = {
            "labels": {},
            **made.get("metadata", {}),
            "name": name,
            "namespace": namespace,
            "uid": old.get("uid") or str(uuid.uuid4()),
            "resourceVersion": str(int(old.get("resourceVersion", 0)) + 1),
            "creationTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        self.objects[path] = {**made, "apiVersion": api, "kind": kind, "metadata": metadata}

    def _start_job(self, path: str) -> None:
        job = self.objects[path]
        template = job["spec"]["template"]
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        mine = {"batch.kubernetes.io/job-name": name}
        job["spec"]["selector"] = {"matchLabels": mine}
        for index in range(job["spec"].get("completions", 1)):
            pod = deepcopy(template)
            pod["metadata"]["labels"] |= mine
            if job["spec"].get("completionMode") == "Indexed":
                variable = {"name": "JOB_COMPLETION_INDEX", "value": str(index)}
                pod["spec"]["containers"][0]["env"].append(variable)
            self.create(f"/api/v1/namespaces/{namespace}/pods/{name}-{index}", pod)

    def _start_pod(self, path: str) -> None:
        pod = self.objects[path]
        [container] = pod["spec"]["containers"]
        with self.log(path).open("wb") as log:
            self._pods[path] = subprocess.Popen(
                [*container["command"], *container.get("args", [])],
                env={
                    **self._machine(),
                    **self._environment(pod["metadata"]["namespace"], container),
                },
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _machine(self) -> dict[str, str]:
        """Return the environment that the image and Kubernetes give a container."""
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        }

    def _environment(self, namespace: str, container: Object) -> dict[str, str]:
        environment = {}
        for variable in container["env"]:
            if "value" in variable:
                value = variable["value"]
                environment[variable["name"]] = self.services.get(value, value)
                continue
            reference = variable["valueFrom"]["secretKeyRef"]
            path = f"/api/v1/namespaces/{namespace}/secrets/{reference['name']}"
            data = self.objects.get(path, {}).get("data", {})
            if reference["key"] in data:
                coded = data[reference["key"]]
                environment[variable["name"]] = base64.b64decode(coded).decode()
            elif not reference.get("optional"):
                raise KeyError(f"{path} has no {reference['key']}: the pod would never start")
        return environment

    def _current(self, path: str) -> Object:
        found = deepcopy(self.objects[path])
        if path in self._pods:
            code = self._pods[path].poll()
            state = {"terminated": {"exitCode": code}} if code is not None else {"running": {}}
            phase = {None: "Running", 0: "Succeeded"}.get(code, "Failed")
            found["status"] = {
                "phase": phase,
                "containerStatuses": [
                    {"name": item["name"], "ready": code is None, "restartCount": 0, "image": "",
                     "imageID": "", "state": state}
                    for item in found["spec"]["containers"]
                ],
            }  # fmt: skip
        return found


def shell(cluster: Cluster, commands: str) -> str:
    """Run shell commands from the docs in the project's folder; return all output."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": cluster.url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
        "current-context": "test",
    }
    home = cluster.folder.parent / "home"
    home.mkdir(exist_ok=True)
    (home / "config").write_text(json.dumps(config))
    folders = {str(Path(tool(name)).parent) for name in ("helm", "kubectl")}
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=ROOT,
        env={
            "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
            "HOME": str(home),
            "KUBECONFIG": str(home / "config"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
