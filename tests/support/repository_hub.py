"""A Hub for tests of deploying: holds repositories of Spaces and models, settings and stages.

It speaks to the real huggingface_hub client: repositories are made, files come as git blobs or by
LFS, a commit or a setting starts a build, which runs through the stages, and /space/health answers
for the container that runs, with a boot_id of its own. Faults are put in `hub.faults`.
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
    """`faults[action]` holds what the next calls of that action get: a status, or "hang".

    `calls` has an entry for every call: action and status. Actions: whoami, info, create, settings,
    variables, secrets, add-variable, add-secret, commit, restart, runtime, logs, resolve, …
    """

    def __init__(self, *, build: tuple[str, ...] = BUILD) -> None:
        self.build = build  # the stages that every build goes through, one a look
        self.log = [f"step {number}\n" for number in range(100)] + ["ERROR: no space left\n"]
        self.spaces: dict[str, Repository] = {}
        self.models: dict[str, Repository] = {}
        self.faults: dict[str, deque[int | str]] = defaultdict(deque)
        self.calls: list[tuple[str, int]] = []
        self.health_tokens: set[str | None] = set()
        self.objects: dict[str, bytes] = {}  # LFS, by SHA-256
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
        """What a commit, a setting or a restart does to a Space that does not rest."""
        space.next_stages = deque(self.build)

    def look(self, space: Repository) -> str:
        """The stage; a build progresses with every request."""
        if space.next_stages:
            stage = space.next_stages.popleft()
            if stage == "RUNNING":
                space.boots += 1
            elif space.runs() and stage in ("BUILDING", "APP_STARTING"):
                stage = f"RUNNING_{stage}"  # the old container answers still
            space.stage = stage
        return space.stage
