"""Renew what is pinned: versions, and the hashes that the images install by.

    make lock                   the newest versions that go together, and their hashes
    make lock LOCK=--hashes     the hashes alone, after a version was changed by hand

Writes `constraints.txt` (all extras of the project), `kronos_space/requirements.txt` (what the
Space imports, and below it what that needs) and the `.lock` files of both images, with `uv pip
compile`. No file names an index. PyTorch's CPU build is not on PyPI: `kronos_space/torch-cpu.lock`
stays as it is, and the last line says so where the version moved.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SPACE, BOTS = ROOT / "kronos_space", ROOT / "tradingbot"
CONSTRAINTS = ROOT / "constraints.txt"
# what the images run on; a wheel for it runs on every Linux of today
PLATFORM = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
COMPILE = [
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", *PLATFORM),
    *("--no-emit-index-url", "--no-header", "--no-annotate"),
]
GPU_ONLY = ("nvidia-", "cuda-", "triton==")  # PyTorch on PyPI asks for them; the CPU build does not
BROUGHT = "\n# What these bring along.\n"


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
    """The newest versions of everything that any extra asks for, and that go together."""
    found = _compile("", "--all-extras", "--upgrade", "pyproject.toml")
    kept = [line for line in found.splitlines() if not line.startswith(GPU_ONLY)]
    _write(CONSTRAINTS, "\n".join(kept) + "\n")


def renew_requirements() -> None:
    """The Space's own requirements in those versions, and what they bring along today."""
    file = SPACE / "requirements.txt"
    own = _entries(file.read_text().partition(BROUGHT)[0])
    versions = _entries(CONSTRAINTS.read_text())
    pinned = [f"{name}=={versions[name]}" for name in own]
    all_of_them = _compile("\n".join(pinned), "-c", str(CONSTRAINTS), "-")
    brought = [line for line in all_of_them.splitlines()
               if line not in pinned and not line.startswith(GPU_ONLY)]  # fmt: skip
    _write(file, "\n".join(pinned) + "\n" + BROUGHT + "\n".join(brought) + "\n")


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
        sys.exit("lock: uv found no versions that go together; it says why above")
    return done.stdout


def _entries(text: str) -> dict[str, str]:
    """Name -> version, in order."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def _write(file: Path, body: str) -> None:
    """Under the comment that the file begins with."""
    head = re.match(r"(?:#.*\n)*", file.read_text())
    assert head is not None
    file.write_text(head[0] + body)
    print(f"{file.relative_to(ROOT)}: {len(_entries(body))} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
