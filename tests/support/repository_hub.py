"""A Hub for tests of deploying: holds a Space's repository, settings and stage, over HTTP.

It speaks to the real huggingface_hub client: repositories are made, files come as git blobs or by
LFS, a commit or a setting starts a build, which runs through the stages, and /space/health answers
for the container that runs, with a boot_id of its own. Faults are put in `hub.faults`.
"""

import base64
import hashlib
import json
import threading
import time
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

TOKEN = "hf_write_token"
READ_TOKEN = "hf_read_token"
BUILD = ("BUILDING", "APP_STARTING", "RUNNING")


class Repository:
    """One Space on the Hub."""

    def __init__(self, *, private: bool = False) -> None:
        self.private = private
        self.files: dict[str, bytes] = {".gitattributes": b"*.safetensors filter=lfs\n"}
        self.variables: dict[str, str] = {}
        self.secrets: dict[str, dict[str, str]] = {}  # value, description
        self.commits = 0
        self.boots = 0  # a container's boot_id is the count of those before it
        self.stage = "NO_APP_FILE"
        self.next_stages: deque[str] = deque()

    def runs(self) -> bool:
        return self.stage in ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")


class RepositoryHub:
    """`faults[action]` holds what the next calls of that action get: a status, or "hang".

    `calls` has an entry for every call: action and status. Actions: whoami, info, create, settings,
    variables, secrets, add-variable, add-secret, commit, restart, runtime, logs, …
    """

    def __init__(self, *, build: tuple[str, ...] = BUILD) -> None:
        self.build = build  # the stages that every build goes through, one a look
        self.log = [f"step {number}\n" for number in range(100)] + ["ERROR: no space left\n"]
        self.spaces: dict[str, Repository] = {}
        self.faults: dict[str, deque[int | str]] = defaultdict(deque)
        self.calls: list[tuple[str, int]] = []
        self.health_tokens: set[str | None] = set()
        self.objects: dict[str, bytes] = {}  # LFS, by SHA-256
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def changes(self) -> list[str]:
        """The calls that changed something, in order."""
        looks = {
            *("whoami", "info", "variables", "secrets", "runtime", "logs", "health"),
            *("other", "preupload", "validate-yaml", "lfs-batch", "lfs-upload"),
        }
        return [action for action, status in self.calls if action not in looks and status < 400]

    def starts(self, space: Repository) -> None:
        """What a commit, a setting or a restart does to a Space that does not rest."""
        space.next_stages = deque(self.build)

    def look(self, space: Repository) -> str:
        """The stage; a build goes on with every look."""
        if space.next_stages:
            stage = space.next_stages.popleft()
            if stage == "RUNNING":
                space.boots += 1
            elif space.runs() and stage in ("BUILDING", "APP_STARTING"):
                stage = f"RUNNING_{stage}"  # the old container answers still
            space.stage = stage
        return space.stage


def _handler(hub: RepositoryHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms between its head and its body

        def do_GET(self) -> None:
            self._route("GET")

        def do_POST(self) -> None:
            self._route("POST")

        def do_PUT(self) -> None:
            self._route("PUT")

        def _route(self, method: str) -> None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = unquote(urlsplit(self.path).path).strip("/").split("/")
            match method, *path:
                case "GET", owner, name, "health":
                    self._health(hub.spaces.get(f"{owner}/{name}"))
                case "PUT", "lfs", oid:
                    hub.objects[oid] = self.body
                    self._answer("lfs-upload", 200, {})
                case "GET", "api", "whoami-v2":
                    self._checked("whoami", lambda: {"name": "me", "type": "user"})
                case "POST", "api", "validate-yaml":
                    self._answer("validate-yaml", 200, {"errors": [], "warnings": []})
                case "POST", "api", "repos", "create":
                    self._checked("create", self._create, writes=True)
                case "POST", "spaces", owner, name, "info", "lfs", "objects", "batch":
                    self._checked("lfs-batch", self._lfs_batch, writes=True)
                case _, "api", "spaces", owner, name, *rest if f"{owner}/{name}" in hub.spaces:
                    self._space(method, f"{owner}/{name}", rest)
                case _, "api", "spaces", *_:
                    self._checked("info", lambda: None)
                case _:
                    self._answer("other", 404, {"error": "not found"})

        def _space(self, method: str, repo: str, rest: list[str]) -> None:
            space = hub.spaces[repo]
            match method, *rest:
                case ("GET",):
                    self._checked("info", lambda: self._info(repo, space))
                case "GET", "runtime":
                    self._checked("runtime", lambda: self._runtime(space))
                case "GET", "variables":
                    listed = {n: {"key": n, "value": v} for n, v in space.variables.items()}
                    self._checked("variables", lambda: listed)
                case "GET", "secrets":
                    listed = {
                        n: {"key": n, "description": s["description"]}
                        for n, s in space.secrets.items()
                    }
                    self._checked("secrets", lambda: listed)
                case "GET", "logs", kind:
                    self._logs(kind)
                case "POST", "variables":
                    self._checked("add-variable", lambda: self._variable(space), writes=True)
                case "POST", "secrets":
                    self._checked("add-secret", lambda: self._secret(space), writes=True)
                case "PUT", "settings":
                    self._checked("settings", lambda: self._settings(space), writes=True)
                case "POST", "restart":
                    self._checked("restart", lambda: self._restart(space), writes=True)
                case "POST", "preupload", _:
                    self._checked("preupload", self._preupload, writes=True)
                case "POST", "commit", _:
                    self._checked("commit", lambda: self._commit(space), writes=True)
                case _:
                    self._answer("other", 404, {"error": "not found"})

        def _create(self) -> Any:
            asked = json.loads(self.body)
            repo = f"{asked['organization']}/{asked['name']}"
            assert (asked["type"], asked["sdk"]) == ("space", "docker")
            hub.spaces[repo] = Repository(private=asked.get("visibility") == "private")
            return {"url": f"{hub.url}/spaces/{repo}"}

        def _info(self, repo: str, space: Repository) -> Any:
            info = {"id": repo, "private": space.private, "host": f"{hub.url}/{repo}"}
            if "blobs=" in urlsplit(self.path).query:
                info["siblings"] = [_sibling(*file) for file in space.files.items()]
            return info

        def _runtime(self, space: Repository) -> Any:
            hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
            return {"stage": hub.look(space), "hardware": hardware, "storage": None}

        def _variable(self, space: Repository) -> Any:
            asked = json.loads(self.body)
            space.variables[asked["key"]] = asked["value"]
            self._built_anew(space)
            return {}

        def _secret(self, space: Repository) -> Any:
            asked = json.loads(self.body)
            space.secrets[asked["key"]] = {
                "value": asked["value"],
                "description": asked["description"],
            }
            self._built_anew(space)
            return {}

        def _settings(self, space: Repository) -> Any:
            space.private = json.loads(self.body)["visibility"] == "private"
            return {}

        def _restart(self, space: Repository) -> Any:
            hub.starts(space)
            return self._runtime(space)

        def _preupload(self) -> Any:
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
                {**asked, "actions": {"upload": {"href": f"{hub.url}/lfs/{asked['oid']}"}}}
                for asked in json.loads(self.body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}

        def _commit(self, space: Repository) -> Any:
            for line in self.body.splitlines():
                match json.loads(line):
                    case {"key": "file", "value": file}:
                        space.files[file["path"]] = base64.b64decode(file["content"])
                    case {"key": "lfsFile", "value": file}:
                        space.files[file["path"]] = hub.objects[file["oid"]]
                    case {"key": "deletedFile", "value": file}:
                        del space.files[file["path"]]
            space.commits += 1
            self._built_anew(space)
            oid = f"{space.commits:040x}"
            return {
                "success": True,
                "commitUrl": f"{hub.url}/spaces/me/kronos/commit/{oid}",
                "commitOid": oid,
            }

        def _built_anew(self, space: Repository) -> None:
            if space.stage not in ("PAUSED", "STOPPED", "SLEEPING") and space.commits:
                hub.starts(space)

        def _logs(self, kind: str) -> None:
            hub.calls.append(("logs", 200))
            lines = ["\n", f"this is the {kind} log\n", *hub.log]
            events = "".join(
                f"data: {json.dumps({'data': line, 'timestamp': ''})}\n\n" for line in lines
            )
            self._send(200, events.encode(), "text/event-stream")

        def _health(self, space: Repository | None) -> None:
            hub.health_tokens.add(self.headers.get("Authorization"))
            if space is None or space.private or not space.runs():
                return self._answer("health", 404 if space is None or space.private else 503, {})
            health = {"status": "ok", "model": "NeoQuasar/Kronos-mini", "boot_id": f"{space.boots}"}
            return self._answer("health", 200, health)

        def _checked(self, action: str, answer: Any, *, writes: bool = False) -> None:
            fault = hub.faults[action].popleft() if hub.faults[action] else None
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if fault == "hang":
                hub.calls.append((action, 599))
                time.sleep(2)
                self.close_connection = True
            elif isinstance(fault, int):
                self._answer(action, fault, {"error": "a fault of the test"})
            elif token not in (TOKEN, READ_TOKEN):
                self._answer(action, 401, {"error": "Invalid credentials"})
            elif writes and token != TOKEN:
                self._answer(action, 403, {"error": "Forbidden"})
            else:
                with hub.lock:
                    content = answer()
                if content is None:
                    return self._answer(action, 404, {"error": "Repository not found"})
                self._answer(action, 200, content)
            return None

        def _answer(self, action: str, status: int, content: Any) -> None:
            hub.calls.append((action, status))
            self._send(status, json.dumps(content).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            try:
                self.send_response(status)
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the caller hung up

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sibling: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": oid}
    if _is_lfs(path):
        sha256 = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
    return sibling
