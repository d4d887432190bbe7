"""Images without Docker: buildah builds, podman runs, both with a storage of their own.

The base is made here with debootstrap (Debian 12's Python is 3.11) and tagged as what the
Dockerfiles ask for, so nothing is pulled. pip inside a build reaches what pip on this machine
reaches: its settings are handed in for the build, and leave nothing in the image.
"""

import configparser
import os
import re
import resource
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import ROOT

TOOLS = ("buildah", "podman", "runc", "debootstrap")
BASE = "python:3.11-slim"  # what the Dockerfiles ask for by its digest
STORAGE = ROOT / "build" / "images"


class Unable(Exception):
    """Images cannot be built here; the text is one line that says why."""


def prepare(tools: tuple[str, ...] = TOOLS) -> None:
    """Install the tools where they are missing, and make the base if they build on it.

    Raises Unable.
    """
    if os.name != "posix" or os.geteuid() != 0:
        raise Unable("building images this way needs root: sudo make image-test")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        if shutil.which("apt-get") is None:
            raise Unable(f"not installed: {', '.join(missing)}; they are looked for in Debian")
        print(f"installing {', '.join(missing)}", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True
        )
    if "buildah" in tools and BASE not in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        _make_base()


def release() -> None:
    """Remove what runs and unmount the storage, so that its folder can be deleted."""
    podman("rm", "--all", "--force")
    buildah("rm", "--all")
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(STORAGE):
            _run("umount", mount)


def build(context: Path, tag: str, *, dockerfile: Path | None = None, **build_args: str) -> str:
    """Build a Dockerfile, else the context's, on the base; returns what was said meanwhile."""
    with TemporaryDirectory() as folder:
        volumes = pip_settings(Path(folder, "pip.conf"))
        return buildah(
            *("build", "--isolation", "chroot", "--format", "docker", "--layers", "--force-rm"),
            *("--pull-never", "--network", "host", "--tag", tag),
            *(f"--volume={volume}" for volume in volumes),
            *(f"--build-arg={name}={value}" for name, value in build_args.items()),
            f"--build-arg=PYTHON_IMAGE={BASE}",
            *(("--file", str(dockerfile)) if dockerfile else ()),
            str(context),
        )


def buildah(*arguments: str) -> str:
    return _run("buildah", *_storage(), *arguments)


def podman(*arguments: str) -> str:
    options = ("--runtime", "runc", "--cgroup-manager", "cgroupfs", "--log-level", "fatal")
    return _run("podman", *_storage(), *options, *arguments)


def start(image: str, *options: str, command: tuple[str, ...] = (), network: str = "none") -> str:
    """Start a container, with no network unless one is named; returns its id."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = ("--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096")
    # podman would run the health check by systemd; the test asks for itself
    return podman(
        *("run", "--detach", "--no-healthcheck", "--network", network, *limits, *options),
        *(image, *command),
    ).strip()


def size(image: str) -> int:
    """Bytes on disk, with the base."""
    return int(podman("image", "inspect", image, "--format", "{{.Size}}"))


def torch_index(dockerfile: Path) -> str:
    """The index that the Dockerfile takes PyTorch from, or '' where it cannot be reached."""
    [url] = re.findall(r"^ARG TORCH_INDEX_URL=(\S+)$", dockerfile.read_text(), re.MULTILINE)
    try:
        urllib.request.urlopen(f"{url}/torch/", timeout=5).close()
    except OSError:
        return ""
    return str(url)


def _storage() -> tuple[str, ...]:
    folders = ("--root", str(STORAGE / "storage"), "--runroot", str(STORAGE / "run"))
    return (*folders, "--storage-driver", "overlay")


def _run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, command[0], done.stdout)
        error.add_note(done.stdout[-3000:])  # else nobody would be shown it
        raise error
    return done.stdout


def _make_base() -> None:
    print(f"making {BASE} with debootstrap", flush=True)
    STORAGE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=STORAGE) as folder:
        root = Path(folder, "root")
        packages = "--include=python3,python3-pip,ca-certificates"
        _run("debootstrap", "--variant=minbase", packages, "bookworm", str(root))
        # pip installs beside Debian's packages, as it does in the image that this stands for
        next(root.glob("usr/lib/python3*/EXTERNALLY-MANAGED")).unlink()
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for cache in ("var/lib/apt/lists", "var/cache/apt"):
            shutil.rmtree(root / cache)
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, str(root), "/")
        buildah("commit", "--quiet", "--rm", container, BASE)


def pip_settings(path: Path) -> list[str]:
    """Write this machine's pip settings to `path`; returns the volumes that a build needs."""
    listed = _run(sys.executable, "-m", "pip", "config", "list")
    settings = configparser.RawConfigParser()
    settings.add_section("global")
    # ":env:" comes first in the list, and wins in pip
    for line in reversed(listed.splitlines()):
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        section = "global" if section == ":env:" else section
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, name, value.strip("'\"").replace("\\n", "\n "))
    with path.open("w") as file:
        settings.write(file)
    words = " ".join(value for section in settings.values() for value in section.values()).split()
    found = [Path(word.removeprefix("file://")) for word in words]
    local = {_mount(path) for path in found if path.is_absolute() and path.exists()}
    return [f"{path}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(local))]


def _mount(path: Path) -> Path:
    """An index's files are next to its pages, so its parent is handed in."""
    return path.parent if path.name == "simple" else path
