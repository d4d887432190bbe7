"""The files uploaded to the Hub suffice to start the service and to bake weights."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import requests

from kronos_space.deployment.deploy import FOLDER, uploaded_files
from tests.support.candles import request
from tests.support.space_server import serving

# -P: only the copy is importable, not the current folder
FROM_THE_COPY = ("-P", "-m", "kronos_space")


def copy(files: Iterable[str], folder: Path) -> None:
    """Copy these files of kronos_space to `folder`, with a version that identifies the copy."""
    for name in files:
        target = folder / "kronos_space" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FOLDER / name, target)
    (folder / "kronos_space" / "__init__.py").write_text('__version__ = "the copy"\n')


def test_the_service_starts_and_answers_from_the_uploaded_files(tmp_path: Path) -> None:
    copy(uploaded_files(FOLDER), tmp_path)
    log = tmp_path / "server.log"
    with serving(log, command=FROM_THE_COPY, PYTHONPATH=str(tmp_path)) as server:
        health = requests.get(f"{server.url}/health", timeout=10).json()
        answer = requests.post(f"{server.url}/predict", json=request(), timeout=60)
        page = requests.get(server.url, timeout=10)
    assert health["version"] == "the copy"
    assert (answer.status_code, page.status_code) == (200, 200)


def test_the_weights_are_baked_before_the_rest_of_the_code_is_in_the_image(tmp_path: Path) -> None:
    """The Dockerfile copies what the download needs first, so that the layer is kept."""
    before = (FOLDER / "Dockerfile").read_text().partition("COPY --chown=user . ")[0]
    lines = re.findall(r"^COPY --chown=user (.+) kronos_space/\S*$", before, re.MULTILINE)
    copy([name for line in lines for name in line.split()], tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "kronos_space.weights.download", "kronos-maxi"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("kronos_space: 'kronos-maxi': expected one of kronos-mini")
