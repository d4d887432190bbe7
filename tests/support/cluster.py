"""A Kubernetes API for tests: keeps what the real helm and kubectl send, and runs a Job's pods.

It is no Kubernetes. It answers what those two ask in order to install a chart, to create a Job from
a CronJob, to follow its log and to run a `helm test`. A pod is a process on this machine with the
command, the arguments and the environment of its container, whose secrets are the cluster's. What
an image, a security context and a scheduler do is not here; `make image-test` runs the image.
"""

import base64
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from copy import deepcopy
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support import ROOT
from tests.support.kube_tools import tool

Object = dict[str, Any]

KINDS = {
    "v1": {"pods": "Pod", "secrets": "Secret", "services": "Service"},
    "batch/v1": {"cronjobs": "CronJob", "jobs": "Job"},
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
}
PROTOBUF = b"k8s\0"  # how a message of it begins
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
RUN_NOW = """
kubectl create job --from=cronjob/tradingbot-kronos test-run -n tradingbots-2025
kubectl logs -f job/test-run -n tradingbots-2025
"""


class Cluster:
    """Reached at `url`, by whoever asks. Its processes work in `folder` and write below it.

    `objects` has everything by path, as /apis/batch/v1/namespaces/bots/cronjobs/tradingbot-kronos.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.services: dict[str, str] = {}  # an address in the cluster -> where it is here
        self.objects: dict[str, Object] = {}
        self._pods: dict[str, subprocess.Popen[bytes]] = {}  # by the pod's path
        self.closing = threading.Event()
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        for process in self._pods.values():
            process.kill()
            process.wait()

    def names(self, plural: str) -> list[str]:
        """Of all objects of a kind."""
        paths = [path.rsplit("/", 2) for path in self.objects]
        return sorted(name for _, kind, name in paths if kind == plural)

    def wait(self, job: str) -> list[int]:
        """The exit codes of a Job's pods, once all have ended."""
        pods = [path for path in self._pods if path.rsplit("/", 1)[1].startswith(f"{job}-")]
        return [self._pods[path].wait(timeout=120) for path in pods]

    def secret(self, namespace: str, name: str, data: dict[str, str]) -> None:
        """What `kubectl create secret generic` leaves."""
        coded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        self._put(f"/api/v1/namespaces/{namespace}/secrets/{name}", {"data": coded})

    # what the API does -------------------------------------------------------------------

    def find(self, path: str, selector: str) -> list[Object]:
        """The objects below a path, with the labels of a selector such as a=b,c=d."""
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        with self._lock:
            below = [key for key in sorted(self.objects) if key.rpartition("/")[0] == path]
            found = [self._current(key) for key in below]
        return [one for one in found if wanted.items() <= one["metadata"]["labels"].items()]

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
        """What `kubectl create job --from` made of a CronJob, in protobuf.

        Name and owner are read from it; the rest is the owner's template, and is looked up there.
        """
        [metadata] = map(_fields, _fields(message)[1])
        [owner] = map(_fields, metadata[13])
        [path] = [
            path for path in self.objects if path.endswith(f"/cronjobs/{owner[3][0].decode()}")
        ]
        template = deepcopy(self.objects[path]["spec"]["jobTemplate"])
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
        api, kind = _type(path)
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
        """What a container has from its image, and what Kubernetes adds."""
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
                    {"name": one["name"], "ready": code is None, "restartCount": 0, "image": "",
                     "imageID": "", "state": state}
                    for one in found["spec"]["containers"]
                ],
            }  # fmt: skip
        return found


def shell(cluster: Cluster, commands: str) -> str:
    """Run commands as they stand in the docs, in the project's folder; their output together."""
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has seen enough of a stream is no error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms between its head and its body

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if url.path == "/openapi/v2":  # an empty protobuf: no schema, so nothing is validated
                return self._send_bytes(200, b"", "application/octet-stream")
            if (answer := _discovery(url.path)) is not None:
                return self._send(200, answer)
            if "/namespaces/" not in url.path:
                return self._send(404, _not_found(url.path))
            pod, _, part = url.path.rpartition("/")
            if part == "log" and cluster.get(pod):
                return self._follow(pod)
            if "watch" in query:
                return self._watch(url.path, query)
            if url.path.partition("/namespaces/")[2].count("/") == 1:
                items = cluster.find(url.path, query.get("labelSelector", ""))
                return self._send(200, _list(url.path, items))
            found = cluster.get(url.path)
            self._send(200 if found else 404, found or _not_found(url.path))
            return None

        def do_POST(self) -> None:
            folder = urlsplit(self.path).path
            made = self._body()
            if folder == "/api/v1/namespaces":  # there is every one
                return self._send(201, {**made, "apiVersion": "v1", "kind": "Namespace"})
            self._send(201, cluster.create(f"{folder}/{made['metadata']['name']}", made))
            return None

        def do_PUT(self) -> None:
            path = urlsplit(self.path).path
            self._send(200, cluster.create(path, self._body()))

        def do_PATCH(self) -> None:
            """Server-side apply, with one who applies: what is sent is what is wanted."""
            self.do_PUT()

        def do_DELETE(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            found = cluster.get(path)
            cluster.delete(path)
            self._send(200 if found else 404, found or _not_found(path))

        def _body(self) -> Object:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if body.startswith(PROTOBUF):
                [message] = _fields(body.removeprefix(PROTOBUF))[2]  # after its type
                return cluster.job(message) if "/jobs" in self.path else _decoded(message)
            made: Object = yaml.safe_load(body)
            return made

        def _follow(self, pod: str) -> None:
            self._begin_stream("text/plain")
            with cluster.log(pod).open("rb") as log:
                while True:
                    ended = cluster.ended(pod)  # before reading: what it wrote last is read too
                    if lines := log.read():
                        self._chunk(lines)
                    elif ended:
                        break
                    else:
                        time.sleep(0.02)
            self._chunk(b"")

        def _watch(self, path: str, query: dict[str, str]) -> None:
            """An event for what is there and whenever something changes, until nobody listens."""
            self._begin_stream("application/json")
            known: dict[str, Object] = {}
            while not cluster.closing.wait(0.02):
                now = {one["metadata"]["name"]: one for one in cluster.find(path, "")}
                for name, one in now.items():
                    if one != known.get(name):
                        self._event("MODIFIED" if name in known else "ADDED", one)
                for name in known.keys() - now.keys():
                    self._event("DELETED", known[name])
                if query.pop("sendInitialEvents", None):  # that was all of them
                    end = {"annotations": {"k8s.io/initial-events-end": "true"}}
                    api, kind = _type(path)
                    metadata = {"resourceVersion": "1", **end}
                    bookmark = {"apiVersion": api, "kind": kind, "metadata": metadata}
                    self._event("BOOKMARK", bookmark)
                known = now

        def _event(self, kind: str, one: Object) -> None:
            self._chunk(json.dumps({"type": kind, "object": one}).encode() + b"\n")

        def _begin_stream(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def _send(self, status: int, body: Object) -> None:
            self._send_bytes(status, json.dumps(body).encode(), "application/json")

        def _send_bytes(self, status: int, data: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _discovery(path: str) -> Object | None:
    """What the API has, or None for a path to an object."""
    groups = [api for api in KINDS if "/" in api]
    match path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            named = [
                {
                    "name": api.partition("/")[0],
                    "versions": [{"groupVersion": api, "version": api.partition("/")[2]}],
                    "preferredVersion": {"groupVersion": api, "version": api.partition("/")[2]},
                }
                for api in groups
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
        case ["api" | "apis", *rest] if (api := "/".join(rest)) in KINDS:
            resources = [
                {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": True,
                 "verbs": VERBS}
                for plural, kind in KINDS[api].items()
            ]  # fmt: skip
            return {"kind": "APIResourceList", "groupVersion": api, "resources": resources}
    return None


def _list(path: str, items: list[Object]) -> Object:
    api, kind = _type(path)
    return {"apiVersion": api, "kind": f"{kind}List", "metadata": {}, "items": items}


def _type(path: str) -> tuple[str, str]:
    """/apis/batch/v1/namespaces/bots/jobs… -> batch/v1, Job"""
    root, _, rest = path.partition("/namespaces/")
    api = root.removeprefix("/apis/").removeprefix("/api/")
    return api, KINDS[api][rest.split("/")[1]]


def _not_found(path: str) -> Object:
    name = path.rsplit("/", 1)[1]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "code": 404,
        "message": f"{name} not found",
        "details": {"name": name},
    }


def _decoded(message: bytes) -> Object:
    """Helm writes its records as secrets, and those in protobuf; so kubectl a namespace."""
    content = _fields(message)
    [metadata] = map(_fields, content[1])
    labels = {name: value.decode() for name, value in _map(metadata[11]).items()}
    data = {name: base64.b64encode(value).decode() for name, value in _map(content[2]).items()}
    return {"metadata": {"name": metadata[1][0].decode(), "labels": labels}, "data": data}


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """Field number -> its values; of texts, bytes and messages alone, as these have no others."""
    found = defaultdict(list)
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        size, at = _varint(message, at)
        if key & 7 == 2:  # else it is a number, which has just been read
            found[key >> 3].append(message[at : at + size])
            at += size
    return found


def _map(entries: list[bytes]) -> dict[str, bytes]:
    pairs = [_fields(entry) for entry in entries if entry]  # a namespace has an empty one
    return {pair[1][0].decode(): pair[2][0] for pair in pairs}


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, lowest seven bits first, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
