"""A Space as the Hub's API sees it: what is there, what can be changed, and what goes wrong.

Every call has a time-out and is repeated while the Hub fails for a reason that may pass.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    SpaceInfo,
    set_client_factory,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from kronos_space.deployment.errors import HubError, HubRefused

CALL_TIMEOUT = 30.0  # seconds; huggingface_hub itself has none
ATTEMPTS = 3
BACKOFF = 1.0  # seconds before the second attempt, then twice as long

T = TypeVar("T")


class HubSpace:
    """One Space. The token goes to the Hub and nowhere else. Raises HubError, HubRefused."""

    def __init__(self, repo: str, token: str, *, endpoint: str | None = None) -> None:
        set_client_factory(
            lambda: httpx2.Client(timeout=CALL_TIMEOUT, follow_redirects=True),
        )
        self.repo = repo
        self._api = HfApi(endpoint=endpoint, token=token)  # by default HF_ENDPOINT, or the Hub

    def check_token(self) -> None:
        """A refused token would make an existing Space look like a missing one."""
        self._call("tell whose token this is", self._api.whoami)

    def info(self, *, files: bool = False) -> SpaceInfo | None:
        """None: there is no such Space, or the token cannot see it. `files`: with checksums."""

        def ask() -> SpaceInfo | None:
            try:
                return self._api.space_info(
                    self.repo,
                    files_metadata=files,
                    timeout=CALL_TIMEOUT,  # left out, there would be none
                )
            except RepositoryNotFoundError:
                return None

        return self._call("describe the Space", ask)

    def variables(self) -> dict[str, str]:
        found = self._call("list the variables", lambda: self._api.get_space_variables(self.repo))
        return {name: variable.value for name, variable in found.items()}

    def secrets(self) -> dict[str, str | None]:
        """Names and descriptions; the Hub shows their values to nobody."""
        found = self._call("list the secrets", lambda: self._api.get_space_secrets(self.repo))
        return {name: secret.description for name, secret in found.items()}

    def stage(self) -> str:
        # SLEEPING is missing from huggingface_hub's enum, so stages are strings
        runtime = self._call("tell the stage", lambda: self._api.get_space_runtime(self.repo))
        return str(runtime.stage)

    def create(self, *, private: bool) -> None:
        self._call(
            "create the Space",
            lambda: self._api.create_repo(
                self.repo, repo_type="space", space_sdk="docker", private=private, exist_ok=True
            ),
        )

    def make_private(self) -> None:
        self._call(
            "make the Space private",
            lambda: self._api.update_repo_settings(self.repo, private=True, repo_type="space"),
        )

    def set_variable(self, name: str, value: str) -> None:
        self._call(
            f"set the variable {name}",
            lambda: self._api.add_space_variable(self.repo, name, value),
        )

    def set_secret(self, name: str, value: str, *, description: str) -> None:
        self._call(
            f"set the secret {name}",
            lambda: self._api.add_space_secret(self.repo, name, value, description=description),
        )

    def commit(self, upload: Mapping[str, Path], delete: list[str], *, message: str) -> None:
        """All changes of files at once, so that the Space is built once."""

        def send() -> None:
            self._api.create_commit(
                self.repo,
                [
                    *(CommitOperationAdd(name, path) for name, path in upload.items()),
                    *(CommitOperationDelete(name) for name in delete),
                ],
                commit_message=message,
                repo_type="space",
            )

        self._call("take the files", send)

    def restart(self) -> None:
        self._call("restart the Space", lambda: self._api.restart_space(self.repo))

    def log_tail(self, lines: int, *, build: bool) -> list[str]:
        """The newest lines of the build or run log; none when it cannot be had."""
        try:
            log = "".join(
                line if line.endswith("\n") else f"{line}\n"
                for line in self._api.fetch_space_logs(self.repo, build=build)
            )
        except (httpx2.HTTPError, OSError, ValueError):
            return []
        return log.splitlines()[-lines:]

    def _call(self, verb: str, call: Callable[[], T]) -> T:
        what = f"{self.repo}: the Hub could not {verb}"
        for attempt in itertools.count(1):
            wait = BACKOFF * 2 ** (attempt - 1)
            try:
                return call()
            except HFValidationError as error:
                raise HubRefused(f"{self.repo!r} is no name of a Space: {error}") from error
            except HfHubHTTPError as error:
                status = error.response.status_code
                if status < 500 and status not in (408, 429):
                    raise HubRefused(f"{what}: {_refusal(status, error)}") from error
                cause = f"it answered {status}"
                asked = error.response.headers.get("Retry-After", "")
                wait = max(wait, min(float(asked), 60.0) if asked.isdecimal() else 0.0)
            except httpx2.HTTPError as error:
                cause = f"{type(error).__name__}: {error}".rstrip(": ")
            except (ValueError, KeyError, TypeError) as error:
                cause = f"its answer makes no sense ({type(error).__name__})"
            if attempt == ATTEMPTS:
                raise HubError(f"{what} in {ATTEMPTS} attempts: {cause}; try again later")
            time.sleep(wait)
        raise AssertionError("unreachable")


def _refusal(status: int, error: HfHubHTTPError) -> str:
    match status:
        case 401:
            return "the token is not valid (401); set HF_TOKEN to a write token"
        case 403:
            return "the token may not do this (403); it needs write access to this Space"
        case 404:
            return "there is no such Space, or the token cannot see it (404)"
    said = (error.server_message or "").strip().splitlines()
    return f"it answered {status}{': ' + said[0] if said else ''}"
