"""Deploy the service as a Space: compare, show the differences, apply them, wait until it is up.

A second run changes nothing. The Hub never returns the value of a secret, so its description
holds a fingerprint that only the same token can compute; it shows whether the value is current.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import SpaceInfo
from tenacity import Retrying, retry_if_result, wait_exponential

from kronos_space.deployment import http
from kronos_space.deployment.access import check_repo_name
from kronos_space.deployment.contents import NOT_SERVED as NOT_SERVED
from kronos_space.deployment.contents import uploaded_files
from kronos_space.deployment.errors import HubError, HubRefused, quoted
from kronos_space.deployment.hub import HubSpace, is_same
from kronos_space.server.logs import message_of
from kronos_space.settings import Settings, SettingsError

FOLDER = Path(__file__).parent.parent
KEPT = {".gitattributes"}  # created by the Hub in every repository
# Every version of the folder has one of these; other applications hardly have any.
OURS = {"forecaster.py", "forecasting/forecaster.py"}
LOG_LINES = 20
STALE_AFTER = 60.0  # seconds after a change during which the Hub may still show an old error stage
HEALTH_TIMEOUT = 10.0
POLL = 0.5  # initial seconds between polls of the stage; then increasing

RUNS = ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")
RESTS = ("PAUSED", "STOPPED", "SLEEPING")
FAILED = {  # stage -> which log explains it, build or run
    "BUILD_ERROR": True,
    "CONFIG_ERROR": True,
    "NO_APP_FILE": True,
    "RUNTIME_ERROR": False,
}

# Variables with such names hold secrets.
_SECRET = re.compile(
    r"(password|passwd|passphrase|secret|token|credentials?|key)_?\d*$", re.IGNORECASE
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """The desired state of the Space. Raises HubRefused for values that are wrong on their face."""

    repo: str  # OWNER/NAME
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    private: bool = False  # False does not change an existing Space
    folder: Path = FOLDER

    def __post_init__(self) -> None:
        check_repo_name(self.repo)
        for name in (*self.variables, *self.secrets):
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                raise HubRefused(f"{name!r}: expected a name of letters, digits and _")
        if both := self.variables.keys() & self.secrets.keys():
            raise HubRefused(f"{min(both)} is given as a variable and as a secret; choose one")
        if secret := next(filter(_SECRET.search, self.variables), None):
            raise HubRefused(f"{secret}: everybody can read a variable; use --secret")
        try:
            Settings.from_env({**self.variables, **self.secrets})
        except SettingsError as error:  # before the build, not after it
            raise HubRefused(str(error)) from error


@dataclass(frozen=True)
class Plan:
    """The differences between the desired state and the Hub's."""

    create: bool = False
    make_private: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    upload: Mapping[str, Path] = field(default_factory=dict)
    delete: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(vars(self).values())

    @property
    def restarts(self) -> bool:
        """Return whether the Hub restarts the Space for these changes."""
        return bool(self.create or self.variables or self.secrets or self.upload or self.delete)

    def lines(self) -> Iterator[str]:
        if self.create:
            yield "create the Space"
        if self.make_private:
            yield "make it private"
        yield from (f"set the variable {name}={value}" for name, value in self.variables.items())
        yield from (f"set the secret {name}" for name in self.secrets)
        yield from (f"upload {name}" for name in self.upload)
        yield from (f"delete {name}" for name in self.delete)


def make_plan(space: HubSpace, wanted: Wanted, *, key: str) -> Plan:
    """Compare the desired state with the Hub; change nothing.

    Args:
        key: The token, as the key of the secrets' fingerprints.

    Raises:
        HubRefused: The Space holds another application.
    """
    space.check_token()
    local = uploaded_files(wanted.folder)
    info = space.info(files=True)
    if info is None:
        return Plan(
            create=True,
            variables=wanted.variables,
            secrets=tuple(wanted.secrets),
            upload=local,
        )
    remote = {file.rfilename: file for file in info.siblings or []}
    strange = remote.keys() - KEPT - {"README.md"}
    if strange and not OURS & remote.keys():
        raise HubRefused(
            f"{wanted.repo} is another application ({quoted(', '.join(sorted(strange)[:3]))}, …), "
            "whose files would be deleted: choose another name, or delete them on the Hub first"
        )
    variables = space.variables()
    secrets = space.secrets() if wanted.secrets else {}
    return Plan(
        make_private=wanted.private and not info.private,
        variables={n: v for n, v in wanted.variables.items() if variables.get(n) != v},
        secrets=tuple(
            name
            for name, value in wanted.secrets.items()
            if secrets.get(name) != _fingerprint(wanted.repo, name, value, key)
        ),
        upload={n: p for n, p in local.items() if n not in remote or not is_same(p, remote[n])},
        delete=tuple(sorted(remote.keys() - local.keys() - KEPT)),
    )


def apply(plan: Plan, space: HubSpace, wanted: Wanted, *, key: str, say: Say) -> None:
    """Apply the changes, files last, so that the build finds variables and secrets in place."""
    stage = None if plan.create else space.stage()
    if plan.create:
        space.create(private=wanted.private)
    if plan.make_private:
        space.make_private()
    for name, value in plan.variables.items():
        space.set_variable(name, value)
    for name in plan.secrets:
        value = wanted.secrets[name]
        description = _fingerprint(wanted.repo, name, value, key)
        space.set_secret(name, value, description=description)
    if plan.upload or plan.delete:
        space.commit(plan.upload, list(plan.delete), message="Deploy kronos_space")
    if plan.restarts and stage in RESTS:
        say(f"it was {stage}: restarting")
        space.restart()


def boot_id(space: HubSpace, *, key: str) -> str | None:
    """Return the id of the container that answers, or None if none of ours does."""
    info = space.info()
    if info is None or space.stage() not in RUNS:
        return None
    for _ in range(3):
        try:
            return _health(info, key=key).get("boot_id")
        except httpx2.HTTPError:
            continue
    return None


def wait_until_up(
    space: HubSpace,
    *,
    key: str,
    timeout: float,
    say: Say,
    old_boot: str | None = None,
    changed: bool = True,
) -> dict[str, Any]:
    """Return /health of the new container as soon as it answers.

    Args:
        old_boot: The id of the old container.
        timeout: Seconds to wait.

    Raises:
        HubError: The build or the start fails, or the time is over. The end of the Space's log is
            printed before.
    """
    watch = _Watch(space, key, say, old_boot, changed)
    pause = wait_exponential(multiplier=POLL, exp_base=1.3, max=10.0)
    attempts = Retrying(
        retry=retry_if_result(lambda health: health is None),
        wait=lambda state: min(pause(state), max(0.0, timeout - watch.waited)),
        stop=lambda _: watch.waited >= timeout,
        retry_error_callback=lambda _: None,
    )
    health: dict[str, Any] | None = attempts(watch.look)
    if health is None:
        raise HubError(
            f"{space.repo}: not up within {timeout:g} s: stage {watch.stage or 'unknown'}"
            f"{watch.trouble}; the Hub may still be at it, run this again to go on waiting"
        )
    return health


@dataclass
class _Watch:
    """What is known of a Space while its new container is waited for."""

    space: HubSpace
    key: str
    say: Say
    old_boot: str | None
    changed: bool
    stage: str = ""
    stages: int = 0  # seen so far
    trouble: str = ""  # what the newest look met
    started: float = field(default_factory=time.monotonic)

    @property
    def waited(self) -> float:
        return time.monotonic() - self.started

    def look(self) -> dict[str, Any] | None:
        """The /health of the new container; None while it does not answer. HubError: it failed."""
        try:
            return self._new_health()
        except httpx2.HTTPError as error:
            self.trouble = f"; /health: {error}"
        except (HubRefused, _Failed):
            raise
        except HubError as error:  # it may be available again before the deadline
            self.trouble = f"; {error}"
        return None

    def _new_health(self) -> dict[str, Any] | None:
        waited = self.waited
        stage, info = self.space.stage(), self.space.info()
        if stage != self.stage:
            self.stage = stage
            self.stages += 1
            self.say(f"{stage} after {waited:.0f} s")
        fresh = not self.changed or self.stages > 1 or waited > STALE_AFTER
        if stage in FAILED and fresh:
            raise _failure(self.space, stage, self.say)
        if stage == "RUNNING" and info is not None:
            health = _health(info, key=self.key)
            if health.get("status") == "ok" and health.get("boot_id") != self.old_boot:
                return health
            self.trouble = "; the old container still answers"
        return None


def address(info: SpaceInfo) -> str:
    """Return the URL of the Space."""
    return info.host or f"https://{info.subdomain}.hf.space"


class _Failed(HubError):
    """The Space has failed; waiting does not help."""


def _failure(space: HubSpace, stage: str, say: Say) -> _Failed:
    lines = space.log_tail(LOG_LINES, build=FAILED[stage])
    for line in lines:
        say(f"| {quoted(line)}")
    last = next((line for line in reversed(lines) if line.strip()), "its log is not available")
    return _Failed(f"{space.repo}: {stage}: {quoted(message_of(last.strip()))}")


def _health(info: SpaceInfo, *, key: str) -> dict[str, Any]:
    """Return the answer of /health. Only a private Space gets the token; the Hub requires it."""
    url = httpx2.URL(f"{address(info).rstrip('/')}/health")
    trusted = url.scheme == "https" and url.host.endswith(".hf.space")
    headers = {"Authorization": f"Bearer {key}"} if info.private and trusted else {}
    with http.client() as client:
        answer = http.within(
            HEALTH_TIMEOUT, lambda: client.get(url, headers=headers, follow_redirects=False)
        )
    answer.raise_for_status()
    try:
        health = answer.json()
    except ValueError:
        return {}
    return health if isinstance(health, dict) else {}


def _fingerprint(repo: str, name: str, value: str, key: str) -> str:
    text = "\0".join((repo, name, value)).encode()
    return f"kronos-space deploy {hmac.new(key.encode(), text, hashlib.sha256).hexdigest()[:16]}"
