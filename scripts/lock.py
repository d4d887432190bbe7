"""Renew the pinned versions, and the hashes with which the images are installed.

    make lock                   pin the newest compatible versions and their hashes
    make lock LOCK=--hashes     renew only the hashes, after a version was changed by hand

Writes `constraints.txt` (all extras of the project), `kronos_space/requirements.txt` (direct and
transitive dependencies of the Space) and the `.lock` files of both images, with `uv pip compile`.
No file names an index. PyTorch's CPU build is not on PyPI, so `kronos_space/torch-cpu.lock` is not
written; if the version of torch changed, the script ends with an error that says so.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SPACE, BOTS = ROOT / "kronos_space", ROOT / "tradingbot"
CONSTRAINTS = ROOT / "constraints.txt"
# platform of the images; wheels for it run on every current Linux
PLATFORM = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
COMPILE = [
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", *PLATFORM),
    *("--no-emit-index-url", "--no-header", "--no-annotate"),
]
# dependencies of PyTorch on PyPI that the CPU build does not have
GPU_ONLY = ("nvidia-", "cuda-", "triton==")
TRANSITIVE = "\n# Transitive dependencies.\n"


def main(arguments: list[str]) -> None:
    if arguments not in ([], ["--hashes"]):
        sys.exit(f"lock: {' '.join(arguments)}: expected nothing or --hashes")
    if not arguments:
        renew_constraints()
    renew_requirements()
    renew_hashes()
    torch, locked = (re.findall(r"^torch==(\S+)", file.read_text(), re.MULTILINE)
                     for file in (CONSTRAINTS, SPACE / "torch-cpu.lock"))  # fmt: skip
    if torch != locked:
        sys.exit(f"lock: write the hashes of torch {torch[0]} into kronos_space/torch-cpu.lock, as "
                 "https://download.pytorch.org/whl/cpu/torch/ shows them")  # fmt: skip


def renew_constraints() -> None:
    """Write the newest compatible versions of all extras to `constraints.txt`."""
    found = _compile("", "--all-extras", "--upgrade", "pyproject.toml")
    kept = [line for line in found.splitlines() if not line.startswith(GPU_ONLY)]
    _write(CONSTRAINTS, "\n".join(kept) + "\n")


def renew_requirements() -> None:
    """Write the Space's direct and transitive dependencies, pinned as in `constraints.txt`."""
    file = SPACE / "requirements.txt"
    direct = _entries(file.read_text().partition(TRANSITIVE)[0])
    versions = _entries(CONSTRAINTS.read_text())
    pinned = [f"{name}=={versions[name]}" for name in direct]
    compiled = _compile("\n".join(pinned), "-c", str(CONSTRAINTS), "-")
    transitive = [line for line in compiled.splitlines()
               if line not in pinned and not line.startswith(GPU_ONLY)]  # fmt: skip
    _write(file, "\n".join(pinned) + "\n" + TRANSITIVE + "\n".join(transitive) + "\n")


def renew_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = (SPACE / "requirements.txt").read_text()
    without_torch = re.sub(r"^torch==.*\n", "", requirements, flags=re.MULTILINE)
    for file, wanted, alone in (
        (BOTS / "requirements.lock", "\n".join(project["dependencies"]), False),
        (BOTS / "plotly.lock", "plotly", True),
        (SPACE / "requirements.lock", without_torch, True),
    ):
        options = ["--generate-hashes", *(["--no-deps"] if alone else [])]
        _write(file, _compile(wanted, *options, "-c", str(CONSTRAINTS), "-"))


def _compile(requirements: str, *arguments: str) -> str:
    done = subprocess.run(
        [*COMPILE, *arguments], cwd=ROOT, input=requirements, text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        sys.exit("lock: uv found no compatible versions; see its output above")
    return done.stdout


def _entries(text: str) -> dict[str, str]:
    """Return the version of each pinned package, in the order of `text`."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def _write(file: Path, body: str) -> None:
    """Replace the contents of `file`, but keep its leading comment."""
    head = re.match(r"(?:#.*\n)*", file.read_text())
    assert head is not None
    file.write_text(head[0] + body)
    print(f"{file.relative_to(ROOT)}: {len(_entries(body))} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
