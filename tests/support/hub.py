"""A Hub for tests: answers over HTTP as the Hugging Face Hub does, and runs Spaces as processes.

After a restart the old process answers for a moment longer, and the new one starts after a delay
while the stage changes. A pause kills the process; if it ends by itself, the stage becomes
RUNTIME_ERROR. `hub.space_url` is the first Space's public address, a proxy that answers 503 while
no container runs. Tests inject faults through `hub.faults`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from tests.support.hosted_space import TINY_SPACE, Container, Fault, HostedSpace, Launch, popen
from tests.support.http_server import Server
from tests.support.hub_api import REPO, TOKEN, HubHandler

__all__ = ["REPO", "TINY_SPACE", "TOKEN", "Container", "Fault", "HostedSpace", "Hub"]


class Hub(HostedSpace):
    """A Hub whose first Space, REPO, has its attributes; `spaces` has all by name.

    `launch` starts a container on a port; `tests.support.space_server.launch` starts a real Space.
    """

    def __init__(
        self,
        command: Sequence[str] = TINY_SPACE,
        *,
        environ: Mapping[str, str] = os.environ,
        launch: Launch | None = None,
        **of_the_space: Any,
    ) -> None:
        super().__init__(
            REPO, "/space", launch or popen(command), environ=dict(environ), **of_the_space
        )
        self.spaces: dict[str, HostedSpace] = {REPO: self}
        self._server = Server(("127.0.0.1", 0), partial(HubHandler, self.spaces))
        self.url = self._server.url
        self.space_url = self.url_of(self)

    def add(self, repo: str, happens: Callable[[str], Fault | None] | None = None) -> HostedSpace:
        """Add a Space like the first one, at the address `url_of(space)`."""
        space = HostedSpace(
            repo,
            f"/spaces/{repo}",
            self.launch,
            environ=dict(self.environ),
            old_lingers=self.old_lingers,
            private=self.private,
            patience=self.patience,
            happens=happens or (lambda event: None),
            log=self.log,
        )
        self.spaces[repo] = space
        return space

    def url_of(self, space: HostedSpace) -> str:
        """Return the Space's public address."""
        return self.url + space.path

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for space in self.spaces.values():
            space.pause()
        self._server.stop()
