"""A test that never ends is stopped; pytest's settings are real, except for a shorter time-out."""

import os
from pathlib import Path

from tests.support import ROOT
from tests.support.commands import run


def test_a_hanging_test_is_ended_and_shows_its_stack(tmp_path: Path) -> None:
    file = tmp_path / "test_of_an_endless_wait.py"
    file.write_text("import threading\n\ndef test_waits(): threading.Event().wait()\n")
    options = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-n0")
    done = run(
        "pytest",
        *(*options, "-o", "faulthandler_timeout=0.1", "-p", "no:cacheprovider", str(file)),
        cwd=tmp_path,
        env=os.environ,
    )
    assert done.returncode == 1
    assert f'File "{file}", line 3 in test_waits' in done.stderr
