"""Build and run images without Docker: buildah builds, podman runs, in a separate storage folder.

debootstrap makes the base image (Debian 12 has Python 3.11). It gets the tag that the Dockerfiles
name, so nothing is pulled. pip in a build uses this machine's pip settings; they are mounted for
the build and do not remain in the image.
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
BASE = "python:3.11-slim"  # the Dockerfiles name it by digest
STORAGE = ROOT / "build" / "images"


class Unavailable(Exception):
    """Images cannot be built on this machine; the message says why in one line."""


def prepare(tools: tuple[str, ...] = TOOLS) -> None:
    """Install missing tools; make the base image if buildah is one of them.

    Raises:
        Unavailable: The tools are missing and cannot be installed.
    """
    if os.name != "posix" or os.geteuid() != 0:
        raise Unavailable("building images this way needs root: sudo make image-test")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        if shutil.which("apt-get") is None:
            raise Unavailable(
                f"not installed: {', '.join(missing)}; install them yourself, because this machine "
                "has no apt-get"
            )
        print(f"installing {', '.join(missing)}", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True
        )
    if "buildah" in tools and BASE not in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        _make_base()


def release() -> None:
    """Remove all containers and unmount the storage, so that its folder can be deleted."""
    podman("rm", "--all", "--force")
    buildah("rm", "--all")
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(STORAGE):
            _run("umount", mount)


def build(context: Path, tag: str, *, dockerfile: Path | None = None, **build_args: str) -> str:
    """Build `dockerfile`, by default the one in `context`, on the base; return the output."""
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
    """Start a container, without a network by default; return its id."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = ("--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096")
    # podman runs health checks through systemd; the test runs the check itself
    return podman(
        *("run", "--detach", "--no-healthcheck", "--network", network, *limits, *options),
        *(image, *command),
    ).strip()


def size(image: str) -> int:
    """Return the size on disk in bytes, base included."""
    return int(podman("image", "inspect", image, "--format", "{{.Size}}"))


def torch_index(dockerfile: Path) -> str:
    """Return the PyTorch index that the Dockerfile names, or "" if it is unreachable."""
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
        # pytest shows notes, but not the output of a CalledProcessError
        error.add_note(done.stdout[-3000:])
        raise error
    return done.stdout


def _make_base() -> None:
    print(f"making {BASE} with debootstrap", flush=True)
    STORAGE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=STORAGE) as folder:
        root = Path(folder, "root")
        packages = "--include=python3,python3-pip,ca-certificates"
        _run("debootstrap", "--variant=minbase", packages, "bookworm", str(root))
        # allow pip to install next to Debian's packages, as in the real base image
        next(root.glob("usr/lib/python3*/EXTERNALLY-MANAGED")).unlink()
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for cache in ("var/lib/apt/lists", "var/cache/apt"):
            shutil.rmtree(root / cache)
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, str(root), "/")
        buildah("commit", "--quiet", "--rm", container, BASE)


def pip_settings(path: Path) -> list[str]:
    """Write this machine's pip settings to `path`; return the volumes that a build needs."""
    listed = _run(sys.executable, "-m", "pip", "config", "list")
    settings = configparser.RawConfigParser()
    settings.add_section("global")
    # ":env:" is listed first but takes precedence, so it is written last
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
    """Return the parent of an index folder, since the packages are next to the index pages."""
    return path.parent if path.name == "simple" else path
