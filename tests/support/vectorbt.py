"""vectorbt, in a separate environment that also finds the packages of this one."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support import ROOT

VERSION = "1.2.0"


def python_with_vectorbt() -> Path:
    """Return the interpreter.

    The first call on a machine installs what is missing: 340 MB below .cache.
    """
    folder = ROOT / ".cache" / f"vectorbt-{VERSION}-{sys.implementation.cache_tag}"
    python, finished = folder / "bin" / "python", folder / "installed"
    packages = sysconfig.get_path("purelib")
    if finished.is_file() and finished.read_text() == packages:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    (site / "site-packages" / "ours.pth").write_text(packages)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*install, "--no-compile", f"vectorbt=={VERSION}"], capture_output=True, text=True
    )
    if done.returncode:
        reason = " ".join(done.stderr.splitlines()[-1:])
        pytest.fail(f"vectorbt {VERSION} cannot be installed, for its example: {reason}", False)
    finished.write_text(packages)
    return python
