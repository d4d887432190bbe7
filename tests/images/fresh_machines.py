"""Run the README's two commands on bare Debian machines: `make fresh-test`.

A machine is a debootstrap root with only PACKAGES, entered by chroot in a separate mount namespace.
It has a clone of this checkout, this machine's network and this machine's pip settings. The test
needs root and takes half an hour.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support import ROOT
from tests.support.containers import STORAGE, pip_settings, prepare

PACKAGES = ("python3", "python3-venv", "make", "ca-certificates")
RELEASES = {"bookworm": "Debian 12, Python 3.11.2", "trixie": "Debian 13, Python 3.13"}
ENTER = """
set -eu
for folder in proc sys dev dev/pts dev/shm; do
    mkdir -p "$root/$folder"; mount --rbind "/$folder" "$root/$folder"
done
cd "$root/work"
exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    sh -c 'cd /work && exec "$@"' sh "$@"
"""


@pytest.fixture(scope="module", params=RELEASES, ids=list(RELEASES.values()))
def machine(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The root of a bare machine with a new clone in /work."""
    prepare(tools=("debootstrap",))
    STORAGE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=STORAGE, prefix="machine-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)  # other users, such as apt's, need access to `/`
        include = f"--include={','.join(PACKAGES)}"
        _run("debootstrap", "--variant=minbase", include, request.param, str(root))
        _run("git", "clone", "--quiet", str(ROOT), str(root / "work"))
        _share_the_network(root)
        yield root


def test_the_first_command_of_the_readme_forecasts(machine: Path) -> None:
    output = enter(machine, "make", "run")
    assert "4 tickers (20 rows) now" in output


def test_every_test_passes(machine: Path) -> None:
    output = enter(machine, "make", "test")
    assert " passed" in output


def enter(root: Path, *command: str) -> str:
    """Run a command in the machine's /work; show and return its output."""
    lines = []
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", *command],
        env={"root": str(root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            lines.append(line)
    output = "".join(lines)
    assert process.returncode == 0, output[-3000:]
    return output


def _share_the_network(root: Path) -> None:
    """Share name servers, certificates, pip's settings and the folders that they name."""
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copyfile(f"/{name}", root / name)
    settings, *folders = pip_settings(root / "etc" / "pip.conf.here")
    shutil.move(settings.partition(":")[0], root / "etc" / "pip.conf")
    for volume in folders:
        path = Path(volume.partition(":")[0])
        if path.is_dir():
            shutil.copytree(path, root / path.relative_to("/"), dirs_exist_ok=True)
        elif not (root / path.relative_to("/")).exists():
            (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, root / path.relative_to("/"))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
