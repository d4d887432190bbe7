"""The bots' Dockerfile as it is written; `make image-test` builds and runs it."""

import re
import subprocess
import sysconfig
from pathlib import Path

from tests.support import ROOT

DOCKERFILE = ROOT / "tradingbot" / "Dockerfile"


def test_hadolint_has_nothing_to_say_about_it() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_its_context_is_what_it_copies_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(let_in)
    assert all((ROOT / name).exists() for name in let_in)


def test_it_runs_as_another_user_than_root_and_starts_the_job() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000"]
    assert lines[-1] == 'CMD ["python", "-m", "tradingbot.kronosbot"]'
    assert "-c constraints.txt" in DOCKERFILE.read_text()
