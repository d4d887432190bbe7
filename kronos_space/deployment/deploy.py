"""Deploy the service as a Space: compare, show the differences, apply them, wait until it is up.

A second run changes nothing. The Hub never returns the value of a secret, so its description
holds a fingerprint that only the same token can compute; it shows whether the value is current.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from kronos_space.deployment.access import check_repo_name
from kronos_space.deployment.contents import NOT_SERVED as NOT_SERVED
from kronos_space.deployment.contents import uploaded_files
from kronos_space.deployment.errors import HubRefused, quoted
from kronos_space.deployment.hub import HubSpace, is_same
from kronos_space.deployment.waiting import Say, health_of
from kronos_space.settings import Settings, SettingsError

FOLDER = Path(__file__).parent.parent
KEPT = {".gitattributes"}  # created by the Hub in every repository
# A Space with one of these files was deployed by some version of this project. The Spaces of other
# applications are unlikely to have one.
OUR_FILES = {"forecaster.py", "forecasting/forecaster.py"}

RUNS = ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")
RESTS = ("PAUSED", "STOPPED", "SLEEPING")

# Variables with such names hold secrets.
_SECRET = re.compile(
    r"(password|passwd|passphrase|secret|token|credentials?|key)_?\d*$", re.IGNORECASE
)


@dataclass(frozen=True)
class Wanted:
    """The desired state of the Space. Raises HubRefused for invalid values."""

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
            raise HubRefused(f"{secret}: anyone can read a variable; use --secret")
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
    if strange and not OUR_FILES & remote.keys():
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
    """Return the boot id of the running container, or None if this service does not answer."""
    info = space.info()
    if info is None or space.stage() not in RUNS:
        return None
    for _ in range(3):
        try:
            return health_of(info, key=key).get("boot_id")
        except httpx2.HTTPError:
            continue
    return None


def _fingerprint(repo: str, name: str, value: str, key: str) -> str:
    text = "\0".join((repo, name, value)).encode()
    return f"kronos-space deploy {hmac.new(key.encode(), text, hashlib.sha256).hexdigest()[:16]}"
