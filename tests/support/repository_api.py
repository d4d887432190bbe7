"""The HTTP side of the repository Hub: what each call of huggingface_hub reads or changes."""

import base64
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.support.http_server import Handler

if TYPE_CHECKING:
    from tests.support.repository_hub import RepositoryHub

TOKEN = "hf_write_token"
READ_TOKEN = "hf_read_token"


class Repository:
    """A Space or model on the Hub."""

    def __init__(self, *, private: bool = False) -> None:
        self.private = private
        self.files: dict[str, bytes] = {".gitattributes": b"*.safetensors filter=lfs\n"}
        self.variables: dict[str, str] = {}
        self.secrets: dict[str, dict[str, str]] = {}  # name -> value, description
        self.commits = 0
        self.revisions: dict[str, dict[str, bytes]] = {}  # files after each commit
        self.boots = 0  # number of container starts; also the boot_id
        self.stage = "NO_APP_FILE"
        self.next_stages: deque[str] = deque()

    def runs(self) -> bool:
        return self.stage in ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")


class RepositoryHandler(Handler):
    """Handle requests to the Hub below /api, and to the Spaces at /OWNER/NAME/health."""

    def __init__(self, hub: "RepositoryHub", *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)  # handles the request

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        self.body = self.read_body()
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        match method, *path:
            case "GET", owner, name, "health":
                self._health(self.hub.spaces.get(f"{owner}/{name}"))
            case "GET" | "HEAD", owner, name, "resolve", revision, *file:
                self._resolve(f"{owner}/{name}", revision, "/".join(file))
            case "PUT", "lfs", oid:
                self.hub.objects[oid] = self.body
                self._answer("lfs-upload", 200, {})
            case _, "api", "spaces" | "models" as kind, owner, name, *rest:
                self._repository(method, kind, f"{owner}/{name}", rest)
            case _:
                self._other(method, path)

    def _other(self, method: str, path: list[str]) -> None:
        match method, *path:
            case "GET", "api", "whoami-v2":
                self._checked("whoami", lambda: {"name": "me", "type": "user"})
            case "POST", "api", "validate-yaml":
                self._answer("validate-yaml", 200, {"errors": [], "warnings": []})
            case "POST", "api", "repos", "create":
                self._checked("create", self._create, writes=True)
            case "POST", *_, "info", "lfs", "objects", "batch":
                self._checked("lfs-batch", self._lfs_batch, writes=True)
            case _:
                self._answer("other", 404, {"error": "not found"})

    def _repository(self, method: str, kind: str, repo: str, rest: list[str]) -> None:
        there = {"spaces": self.hub.spaces, "models": self.hub.models}[kind].get(repo)
        if there is None:
            self._checked("info", lambda: None)
        elif (kind, method, *rest[:1], len(rest)) == ("spaces", "GET", "logs", 2):
            self._logs(rest[1])
        else:
            calls = SPACE_CALLS if kind == "spaces" else MODEL_CALLS
            self._call(method, repo, rest, there, calls)

    def _call(
        self, method: str, repo: str, rest: list[str], there: Repository, calls: "Calls"
    ) -> None:
        self.repo = repo
        name, *more = rest or [""]
        call = calls.get((method, name, len(more)))
        if call is None:
            self._answer("other", 404, {"error": "not found"})
        else:
            action, answer = call
            self._checked(action, lambda: answer(self, there), writes=method != "GET")

    def _resolve(self, repo: str, revision: str, file: str) -> None:
        model = self.hub.models.get(repo)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        hidden = model is None or (model.private and token not in (TOKEN, READ_TOKEN))
        content = None if hidden or model is None else model.revisions.get(revision, {}).get(file)
        if content is None:
            return self._answer("resolve", 404, {"error": "not found"})
        self.hub.calls.append(("resolve", 200))
        headers = {"X-Repo-Commit": revision, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self.send_bytes(200, content, "application/octet-stream", headers)
        return None

    def _create(self) -> Any:
        asked = json.loads(self.body)
        repo = f"{asked['organization']}/{asked['name']}"
        made = Repository(private=asked.get("visibility") == "private")
        if asked.get("type", "model") == "model":
            self.hub.models[repo] = made
            return {"url": f"{self.hub.url}/{repo}"}
        assert (asked["type"], asked["sdk"]) == ("space", "docker")
        self.hub.spaces[repo] = made
        return {"url": f"{self.hub.url}/spaces/{repo}"}

    def _info(self, space: Repository) -> Any:
        info = {"id": self.repo, "private": space.private, "host": f"{self.hub.url}/{self.repo}"}
        info["sha"] = f"{space.commits:040x}"
        if "blobs=" in urlsplit(self.path).query:
            info["siblings"] = [_sibling(*file) for file in space.files.items()]
        return info

    def _runtime(self, space: Repository) -> Any:
        hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
        return {"stage": self.hub.look(space), "hardware": hardware, "storage": None}

    def _variables(self, space: Repository) -> Any:
        return {name: {"key": name, "value": value} for name, value in space.variables.items()}

    def _secrets(self, space: Repository) -> Any:
        return {
            name: {"key": name, "description": secret["description"]}
            for name, secret in space.secrets.items()
        }

    def _variable(self, space: Repository) -> Any:
        asked = json.loads(self.body)
        space.variables[asked["key"]] = asked["value"]
        self._rebuilt(space)
        return {}

    def _secret(self, space: Repository) -> Any:
        asked = json.loads(self.body)
        space.secrets[asked["key"]] = {
            "value": asked["value"],
            "description": asked["description"],
        }
        self._rebuilt(space)
        return {}

    def _settings(self, space: Repository) -> Any:
        space.private = json.loads(self.body)["visibility"] == "private"
        return {}

    def _restart(self, space: Repository) -> Any:
        self.hub.starts(space)
        return self._runtime(space)

    def _preupload(self, space: Repository) -> Any:
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if _is_lfs(file["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(self.body)["files"]
            ]
        }

    def _lfs_batch(self) -> Any:
        objects = [
            {**asked, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}
            for asked in json.loads(self.body)["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _commit(self, space: Repository) -> Any:
        for line in self.body.splitlines():
            match json.loads(line):
                case {"key": "file", "value": file}:
                    space.files[file["path"]] = base64.b64decode(file["content"])
                case {"key": "lfsFile", "value": file}:
                    space.files[file["path"]] = self.hub.objects[file["oid"]]
                case {"key": "deletedFile", "value": file}:
                    del space.files[file["path"]]
        space.commits += 1
        self._rebuilt(space)
        oid = f"{space.commits:040x}"
        space.revisions[oid] = dict(space.files)
        return {
            "success": True,
            "commitUrl": f"{self.hub.url}/spaces/me/kronos/commit/{oid}",
            "commitOid": oid,
        }

    def _rebuilt(self, space: Repository) -> None:
        if space.stage not in ("PAUSED", "STOPPED", "SLEEPING") and space.commits:
            self.hub.starts(space)

    def _logs(self, kind: str) -> None:
        self.hub.calls.append(("logs", 200))
        lines = ["\n", f"this is the {kind} log\n", *self.hub.log]
        events = "".join(
            f"data: {json.dumps({'data': line, 'timestamp': ''})}\n\n" for line in lines
        )
        self.send_bytes(200, events.encode(), "text/event-stream")

    def _health(self, space: Repository | None) -> None:
        self.hub.health_tokens.add(self.headers.get("Authorization"))
        if space is None or space.private or not space.runs():
            return self._answer("health", 404 if space is None or space.private else 503, {})
        health = {"status": "ok", "model": "NeoQuasar/Kronos-mini", "boot_id": f"{space.boots}"}
        return self._answer("health", 200, health)

    def _checked(self, action: str, answer: Any, *, writes: bool = False) -> None:
        fault = self.hub.faults[action].popleft() if self.hub.faults[action] else None
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if fault == "hang":
            self.hub.calls.append((action, 599))
            time.sleep(2)
            self.close_connection = True
        elif isinstance(fault, int):
            taken = f"{self.hub.url}/me/taken"  # a real 409 names the taken repository
            self._answer(action, fault, {"error": "a fault of the test", "url": taken})
        elif token not in (TOKEN, READ_TOKEN):
            self._answer(action, 401, {"error": "Invalid credentials"})
        elif writes and token != TOKEN:
            self._answer(action, 403, {"error": "Forbidden"})
        else:
            with self.hub.lock:
                content = answer()
            if content is None:
                return self._answer(action, 404, {"error": "Repository not found"})
            self._answer(action, 200, content)
        return None

    def _answer(self, action: str, status: int, content: Any) -> None:
        self.hub.calls.append((action, status))
        headers = {"X-Error-Code": "RepoNotFound"} if status == 404 else {}
        self.send_bytes(status, json.dumps(content).encode(), "application/json", headers)


# method, path after the name, number of further parts -> action, handler
Calls = dict[tuple[str, str, int], tuple[str, Callable[[RepositoryHandler, Repository], Any]]]
MODEL_CALLS: Calls = {
    ("GET", "", 0): ("info", RepositoryHandler._info),
    ("POST", "preupload", 1): ("preupload", RepositoryHandler._preupload),
    ("POST", "commit", 1): ("commit", RepositoryHandler._commit),
}
SPACE_CALLS: Calls = MODEL_CALLS | {
    ("GET", "runtime", 0): ("runtime", RepositoryHandler._runtime),
    ("GET", "variables", 0): ("variables", RepositoryHandler._variables),
    ("GET", "secrets", 0): ("secrets", RepositoryHandler._secrets),
    ("POST", "variables", 0): ("add-variable", RepositoryHandler._variable),
    ("POST", "secrets", 0): ("add-secret", RepositoryHandler._secret),
    ("PUT", "settings", 0): ("settings", RepositoryHandler._settings),
    ("POST", "restart", 0): ("restart", RepositoryHandler._restart),
}


def _is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sibling: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": oid}
    if _is_lfs(path):
        sha256 = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
    return sibling
