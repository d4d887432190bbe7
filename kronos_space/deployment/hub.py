"""Repositories on the Hub: their state, changes to them, and errors.

Every call has a time-out, and is repeated after errors that may be temporary.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    SpaceInfo,
    get_session,
    set_client_factory,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoSibling
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from kronos_space.deployment import http
from kronos_space.deployment.errors import HubError, HubRefused, quoted

UPLOAD_SECONDS = 1800.0
ATTEMPTS = 3
LOG_LINE = 8_000  # characters; one line may hold a stack trace
BACKOFF = 1.0  # seconds before the second attempt, then twice as long

T = TypeVar("T")


class HubRepository:
    """One repository. The token is sent to the Hub only. Methods raise HubError and HubRefused."""

    repo_type: str
    noun: str  # for error messages

    def __init__(self, repo: str, token: str, *, endpoint: str | None = None) -> None:
        self.repo = repo
        self._api = _api(endpoint, token)  # None: HF_ENDPOINT, or huggingface.co

    def check_token(self) -> None:
        """Verify the token, because with a wrong token an existing repository looks missing."""
        self._call("check the token", self._api.whoami)

    def commit(self, upload: Mapping[str, Path | bytes], delete: list[str], *, message: str) -> str:
        """Commit all changes at once, so that the Space is built once. Return the revision."""

        changes: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, content) for name, content in upload.items()),
            *(CommitOperationDelete(name) for name in delete),
        ]

        def send() -> str:
            try:
                made = self._api.create_commit(
                    self.repo, changes, commit_message=message, repo_type=self.repo_type
                )
            except RuntimeError as error:  # raised for large files; the cause has the reason
                raise error.__cause__ or error from None
            return str(made.oid)

        return self._call("take the files", send, seconds=UPLOAD_SECONDS)

    def _call(self, verb: str, call: Callable[[], T], *, seconds: float | None = None) -> T:
        failure = f"{self.repo}: the Hub could not {verb}"
        attempts = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=_pause_before_next,
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        try:
            return attempts(lambda: http.within(seconds or http.CALL_TIMEOUT, call))
        except HFValidationError as error:
            raise HubRefused(
                f"{self.repo!r} is not a name of a {self.noun}: {quoted(error)}"
            ) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if not _may_pass(error):
                raise HubRefused(f"{failure}: {_refusal(status, error, self.noun)}") from error
            cause = f"it answered {status}"
        except httpx2.HTTPError as error:
            cause = quoted(f"{type(error).__name__}: {error}".rstrip(": "))
        except Exception as error:
            cause = f"its answer makes no sense ({type(error).__name__})"
        raise HubError(f"{failure} in {ATTEMPTS} attempts: {cause}; try again later")


class HubModel(HubRepository):
    """A model repository."""

    repo_type = "model"
    noun = "model"

    @property
    def address(self) -> str:
        """Return the URL for a browser."""
        return f"{self._api.endpoint}/{self.repo}"

    def info(self) -> ModelInfo | None:
        """Return the model with its files' checksums, or None if it is missing or not visible."""

        def ask() -> ModelInfo | None:
            try:
                return self._api.model_info(
                    self.repo, files_metadata=True, timeout=http.CALL_TIMEOUT
                )
            except RepositoryNotFoundError:
                return None

        return self._call("describe the model", ask)

    def create(self, *, private: bool) -> None:
        self._call(
            "create the model",
            lambda: self._api.create_repo(self.repo, private=private, exist_ok=True),
        )


class HubSpace(HubRepository):
    """One Space."""

    repo_type = "space"
    noun = "Space"

    def info(self, *, files: bool = False) -> SpaceInfo | None:
        """Return the Space with its files' checksums, or None if it is missing or not visible."""

        def ask() -> SpaceInfo | None:
            try:
                return self._api.space_info(
                    self.repo,
                    files_metadata=files,
                    timeout=http.CALL_TIMEOUT,  # the default is no time-out
                )
            except RepositoryNotFoundError:
                return None

        return self._call("describe the Space", ask)

    def variables(self) -> dict[str, str]:
        found = self._call("list the variables", lambda: self._api.get_space_variables(self.repo))
        return {name: variable.value for name, variable in found.items()}

    def secrets(self) -> dict[str, str | None]:
        """Return names and descriptions of the secrets; the Hub never returns values."""
        found = self._call("list the secrets", lambda: self._api.get_space_secrets(self.repo))
        return {name: secret.description for name, secret in found.items()}

    def stage(self) -> str:
        # huggingface_hub's enum lacks SLEEPING, so stages are strings
        runtime = self._call("report the stage", lambda: self._api.get_space_runtime(self.repo))
        return quoted(runtime.stage)

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

    def restart(self) -> None:
        self._call("restart the Space", lambda: self._api.restart_space(self.repo))

    def log_tail(self, lines: int, *, build: bool) -> list[str]:
        """Return the newest lines of the build or run log, or none if it is not available."""
        newest: deque[str] = deque(maxlen=lines)

        def read() -> None:
            for line in self._api.fetch_space_logs(self.repo, build=build):
                newest.extend(str(line)[:LOG_LINE].splitlines())

        with suppress(httpx2.HTTPError, OSError, ValueError):
            http.within(http.CALL_TIMEOUT, read)
        return list(newest.copy())


def is_same(content: Path | bytes, remote: RepoSibling) -> bool:
    """Return whether a file on the Hub has this content, by checksum."""
    found = content if isinstance(content, bytes) else content.read_bytes()
    if remote.lfs is not None:
        return hashlib.sha256(found).hexdigest() == remote.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % len(found) + found).hexdigest() == remote.blob_id


def _may_pass(error: BaseException) -> bool:
    """Return whether another attempt may succeed."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status >= 500 or status in (408, 429)
    return isinstance(error, Exception) and not isinstance(error, HFValidationError)


def _pause_before_next(state: RetryCallState) -> float:
    """Return seconds to wait: doubled each time, or as many as the Hub requests."""
    error = state.outcome and state.outcome.exception()
    asked = ""
    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "")
    least: float = BACKOFF * 2 ** (state.attempt_number - 1)
    return max(least, min(float(asked), 60.0)) if asked.isdecimal() else least


def _api(endpoint: str | None, token: str) -> HfApi:
    """Return the Hub's API. Raise HubRefused if the settings make requests impossible."""
    if not (token.isascii() and token.isprintable()):
        raise HubRefused("HF_TOKEN has characters that no HTTP header carries")
    try:
        set_client_factory(http.client)
        api = HfApi(endpoint=endpoint, token=token)
        url = get_session().build_request("GET", api.endpoint).url
        if not (url.scheme in ("http", "https") and url.host.encode("idna")):
            raise ValueError(url)
    except Exception as error:  # its text may contain the password of a proxy
        raise HubRefused(
            "the Hub cannot be asked: HF_ENDPOINT, a proxy (HTTPS_PROXY, ALL_PROXY) or a file of "
            f"certificates (SSL_CERT_FILE) is wrong ({type(error).__name__})"
        ) from error
    return api


def _refusal(status: int, error: HfHubHTTPError, noun: str) -> str:
    """Return status, the Hub's own message, and what to do."""
    words = f": {quoted(error.server_message)}" if error.server_message else ""
    match status:
        case 401:
            return f"the token is not valid (401){words}; set HF_TOKEN to a write token"
        case 403:
            about_account = ", unless this is about the account" if words else ""
            return (
                f"the token may not do this (403){words}; it needs write access to this {noun}"
                f"{about_account}"
            )
        case 404:
            return f"there is no such {noun}, or the token cannot see it (404){words}"
    return f"it answered {status}{words}"
