"""A Hub for deployment tests, with repositories of Spaces and models, settings and stages.

It serves the real huggingface_hub client: it creates repositories and takes files as git blobs or
through LFS. A commit or a setting starts a build that passes through the stages.
/OWNER/NAME/health answers for the running container, with its boot_id. Tests inject faults through
`hub.faults`.
"""

import threading
from collections import defaultdict, deque
from functools import partial
from typing import Self

from tests.support.http_server import Server
from tests.support.repository_api import READ_TOKEN, TOKEN, Repository, RepositoryHandler

__all__ = ["BUILD", "READ_TOKEN", "TOKEN", "Repository", "RepositoryHub"]

BUILD = ("BUILDING", "APP_STARTING", "RUNNING")


class RepositoryHub:
    """A Hub. `faults[action]` lists the faults of the next calls of an action: a status, or "hang".

    `calls` records action and status of every call. Actions: whoami, info, create, settings,
    variables, secrets, add-variable, add-secret, commit, restart, runtime, logs, resolve, …
    """

    def __init__(self, *, build: tuple[str, ...] = BUILD) -> None:
        self.build = build  # the stages of every build; each request for the runtime advances one
        self.log = [f"step {number}\n" for number in range(100)] + ["ERROR: no space left\n"]
        self.spaces: dict[str, Repository] = {}
        self.models: dict[str, Repository] = {}
        self.faults: dict[str, deque[int | str]] = defaultdict(deque)
        self.calls: list[tuple[str, int]] = []
        self.health_tokens: set[str | None] = set()
        self.objects: dict[str, bytes] = {}  # LFS objects by SHA-256
        self.lock = threading.RLock()
        self._server = Server(("127.0.0.1", 0), partial(RepositoryHandler, self))
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.stop()

    def changes(self) -> list[str]:
        """The calls that changed something, in order."""
        looks = {
            *("whoami", "info", "variables", "secrets", "runtime", "logs", "health"),
            *("other", "preupload", "validate-yaml", "lfs-batch", "lfs-upload", "resolve"),
        }
        return [action for action, status in self.calls if action not in looks and status < 400]

    def starts(self, space: Repository) -> None:
        """Start a build, as a commit, a setting or a restart does unless the Space is paused."""
        space.next_stages = deque(self.build)

    def look(self, space: Repository) -> str:
        """Return the stage; each request advances a build by one."""
        if space.next_stages:
            stage = space.next_stages.popleft()
            if stage == "RUNNING":
                space.boots += 1
            elif space.runs() and stage in ("BUILDING", "APP_STARTING"):
                stage = f"RUNNING_{stage}"  # the old container still answers
            space.stage = stage
        return space.stage
