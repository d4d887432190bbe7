"""Run the reference package in a separate environment.

The reference pins an old huggingface_hub, so it cannot be installed beside our packages. Its
environment uses our other packages, so both sides run the same torch, which is downloaded once.
"""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "kronos-model-arch", "0.1.0"
ENVIRONMENT = Path(".cache/reference")  # default folder
WORKER = Path(__file__).with_name("reference_worker.py")


class ComparisonError(Exception):
    """A side of a comparison is not available, or failed. One line: what, why, and what to do."""


def reference_python(environment: Path) -> Path:
    """Return the interpreter of an environment with the reference; create it if missing.

    Raises:
        ComparisonError: The environment cannot be created.
    """
    python = environment.absolute() / "bin" / "python"
    if _installed_version(python) != VERSION:
        try:
            _make(environment, python)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ComparisonError(
                f"{environment}: an environment with {PACKAGE}=={VERSION} cannot be made "
                f"({_reason(error)}); it takes a package index that can be reached, or "
                "--environment with one that was made before"
            ) from error
    return python


def ask(python: Path, script: Path, question: Mapping[str, Any]) -> Any:
    """Run `script` in the reference's environment with `question` as JSON; return its JSON answer.

    The script can import modules of its folder by their bare names.

    Raises:
        ComparisonError: The script fails.
    """
    command = [str(python), "-E", "-s", str(script)]
    process = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True)
    if process.returncode != 0:
        raise ComparisonError(f"{script.name}: {_last_line(process.stderr)}")
    return json.loads(process.stdout.splitlines()[-1])


def _installed_version(python: Path) -> str | None:
    """Return the version of the reference in that environment."""
    code = f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"
    try:
        output = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True)
    except OSError:  # the interpreter does not exist
        return None
    return output.stdout.strip() or None


def _make(environment: Path, python: Path) -> None:
    _run([sys.executable, "-m", "venv", str(environment)])
    [own_packages] = environment.glob("lib/python*/site-packages")
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own_packages / "ours.pth").write_text("".join(f"{path}\n" for path in sorted(folders)))
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    _run([str(python), *install, f"{PACKAGE}=={VERSION}"])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, OSError):
        return str(error)
    lines = (error.stderr + error.stdout).strip().splitlines()
    errors = [line for line in lines if line.lower().startswith("error:")]
    return str((errors or lines or [str(error)])[-1]).strip()


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "failed without output"
