"""The HTTP side of the Kubernetes API for tests: paths, streams and answer formats."""

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.http_server import Handler
from tests.support.kube_protobuf import PROTOBUF, decoded, fields

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

Object = dict[str, Any]

KINDS = {
    "v1": {
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "pods": "Pod",
        "secrets": "Secret",
        "services": "Service",
    },
    "batch/v1": {"cronjobs": "CronJob", "jobs": "Job"},
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


class ClusterHandler(Handler):
    """Handle requests as the Kubernetes API does."""

    def __init__(self, cluster: "Cluster", *args: Any) -> None:
        self.cluster = cluster
        super().__init__(*args)  # handles the request

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        # an empty protobuf: without a schema, clients validate nothing
        if url.path == "/openapi/v2":
            return self.send_bytes(200, b"", "application/octet-stream")
        if (answer := _discovery(url.path)) is not None:
            return self.send_json(200, answer)
        if "/namespaces/" not in url.path:
            return self.send_json(404, _not_found(url.path))
        pod, _, part = url.path.rpartition("/")
        if part == "log" and self.cluster.get(pod):
            return self._follow(pod)
        if "watch" in query:
            return self._watch(url.path, query)
        if url.path.partition("/namespaces/")[2].count("/") == 1:
            items = self.cluster.find(url.path, query.get("labelSelector", ""))
            return self.send_json(200, _list(url.path, items))
        found = self.cluster.get(url.path)
        self.send_json(200 if found else 404, found or _not_found(url.path))
        return None

    def do_POST(self) -> None:
        folder = urlsplit(self.path).path
        made = self._body()
        if folder == "/api/v1/namespaces":  # any namespace exists
            return self.send_json(201, {**made, "apiVersion": "v1", "kind": "Namespace"})
        self.send_json(201, self.cluster.create(f"{folder}/{made['metadata']['name']}", made))
        return None

    def do_PUT(self) -> None:
        path = urlsplit(self.path).path
        self.send_json(200, self.cluster.create(path, self._body()))

    def do_PATCH(self) -> None:
        """Apply an object (server-side apply); a single client means no conflicts."""
        self.do_PUT()

    def do_DELETE(self) -> None:
        self.read_body()
        path = urlsplit(self.path).path
        found = self.cluster.get(path)
        self.cluster.delete(path)
        self.send_json(200 if found else 404, found or _not_found(path))

    def _body(self) -> Object:
        body = self.read_body()
        if body.startswith(PROTOBUF):
            # field 2 is the message, after its type
            [message] = fields(body.removeprefix(PROTOBUF))[2]
            return self.cluster.job(message) if "/jobs" in self.path else decoded(message)
        made: Object = yaml.safe_load(body)
        return made

    def _follow(self, pod: str) -> None:
        self._begin_stream("text/plain")
        with self.cluster.log(pod).open("rb") as log:
            while True:
                # check first, so that the last output is read as well
                ended = self.cluster.ended(pod)
                if lines := log.read():
                    self._chunk(lines)
                elif ended:
                    break
                else:
                    time.sleep(0.02)
        self._chunk(b"")

    def _watch(self, path: str, query: dict[str, str]) -> None:
        """Stream an event for each existing object and each change until the client disconnects."""
        self._begin_stream("application/json")
        known: dict[str, Object] = {}
        while not self.cluster.closing.wait(0.02):
            now = {item["metadata"]["name"]: item for item in self.cluster.find(path, "")}
            for name, object_ in now.items():
                if object_ != known.get(name):
                    self._event("MODIFIED" if name in known else "ADDED", object_)
            for name in known.keys() - now.keys():
                self._event("DELETED", known[name])
            if query.pop("sendInitialEvents", None):  # marks the end of the existing objects
                end = {"annotations": {"k8s.io/initial-events-end": "true"}}
                api, kind = kind_of(path)
                metadata = {"resourceVersion": "1", **end}
                bookmark = {"apiVersion": api, "kind": kind, "metadata": metadata}
                self._event("BOOKMARK", bookmark)
            known = now

    def _event(self, kind: str, object_: Object) -> None:
        self._chunk(json.dumps({"type": kind, "object": object_}).encode() + b"\n")

    def _begin_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _discovery(path: str) -> Object | None:
    """Return the discovery document of a path, or None if the path names an object."""
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
    api, kind = kind_of(path)
    return {"apiVersion": api, "kind": f"{kind}List", "metadata": {}, "items": items}


def kind_of(path: str) -> tuple[str, str]:
    """Return apiVersion and kind: /apis/batch/v1/namespaces/bots/jobs… -> batch/v1, Job"""
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
