"""`scripts/words.py` finds the phrases of its list; `make lint` holds the project to it."""

from pathlib import Path

import pytest

from scripts import words


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("page.md", "# Title\n\nThe model starts anew.\n", "page.md:3: 'anew': write again"),
        ("module.py", '"""Whoever asks."""\n', "module.py:1: 'Whoever': write anyone who"),
        ("module.py", "# for\n# who asks\n", "module.py:1: 'for # who': write for those"),
        ("test_it.py", "def test_cannot_be_had(): ...\n", "'cannot_be_had': write available"),
        ("values.yaml", "a: 1  # of one's own\n", 'values.yaml:1: "one\'s own": write your own'),
        ("run.sh", "\n# asked in vain\n", "run.sh:2: 'in vain': write without result"),
        ("page.html", "<p>what\n   came</p>", "page.html:1: 'what came': write the outcome"),
        ("page.js", "/** It lets go of it. */", "page.js:1: 'lets go of': write release"),
        ("Makefile", "x: ## Told two apart\n", "Makefile:1: 'Told two apart': write distinguish"),
    ],
)
def test_a_phrase_is_found_with_its_place_and_an_alternative(
    tmp_path: Path, name: str, text: str, found: str
) -> None:
    (tmp_path / name).write_text(text)
    [finding] = words.findings([Path(name)], root=tmp_path)
    assert found in str(finding)


@pytest.mark.parametrize("phrase", words.PHRASES)
def test_a_phrase_is_not_found_inside_a_word(tmp_path: Path, phrase: str) -> None:
    (tmp_path / "page.md").write_text("x".join(["", *phrase.split("(")[0].split(" "), ""]))
    assert list(words.findings([Path("page.md")], root=tmp_path)) == []


def test_every_kind_of_text_file_is_read() -> None:
    paths = words.project_files()
    assert {path.suffix for path in paths} >= {".md", ".py", ".yaml", ".html", ".js", ".css", ".j2"}
    assert {"README.md", "Makefile", "tradingbot/Dockerfile"} <= set(map(str, paths))


def test_ignored_files_are_skipped_without_using_git(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("/.venv/\n__pycache__/\n/report*.html\n")
    kept = ["README.md", "docs/page.md", ".github/flow.yml"]
    for name in (
        *kept,
        ".venv/x.py",
        "docs/__pycache__/x.py",
        "report2.html",
        ".git/config",
        "a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {path.as_posix() for path in words.project_files(tmp_path)}
    assert found == {*kept, ".gitignore"}
