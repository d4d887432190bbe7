"""What the docs say of settings, messages, exit codes and files is so."""

import ast
import importlib.util
import re
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import yaml

from kronos_space.settings import Settings as SpaceSettings
from tests.support import ROOT
from tests.support.doc_pages import pages

VARIABLE = r"(?:KRONOS|HF|POSTGRES|DATABASE|OPENAI|OPENROUTER|JOB)_[A-Z_]*[A-Z]"
OF_THE_SPACE = {setting.metadata["env"] for setting in fields(SpaceSettings)}
OF_THE_HUBS_CLIENT = {"HF_ENDPOINT", "HF_HOME"}


# settings ---------------------------------------------------------------------------------


def test_the_page_of_all_settings_has_each_that_the_code_reads_once_a_table() -> None:
    chapters = settings_page().split("\n## ")[1:]
    named = {chapter.splitlines()[0]: re.findall(rf"^\| `({VARIABLE})`", chapter, re.MULTILINE)
             for chapter in chapters}  # fmt: skip
    assert Counter(named.pop("The Space")) == Counter(OF_THE_SPACE)
    of_a_space_started_here = OF_THE_SPACE - {
        "KRONOS_API_KEY",
        "KRONOS_LOG_FORMAT",
        "KRONOS_MODELS",
    }
    read = variables_of("tradingbot") - {"HF_HOME"} - of_a_space_started_here
    assert Counter(name for names in named.values() for name in names) == Counter(read)


def test_every_setting_of_the_space_is_documented_once_with_its_default() -> None:
    table = first_cells("kronos_space/README.md")
    assert Counter(
        name for row in table for name in re.findall(rf"`({VARIABLE})`", row)
    ) == Counter(OF_THE_SPACE)
    for setting in fields(SpaceSettings):
        default = "" if setting.default is None else f"`{setting.default}`"
        row = f"| `{setting.metadata['env']}` | {default} | {setting.metadata['about']} |"
        row = row.replace("|  |", "| |")
        assert row in pages()["kronos_space/README.md"]


def test_no_page_names_a_setting_that_nothing_reads() -> None:
    known = (
        variables_of("tradingbot") | OF_THE_SPACE | OF_THE_HUBS_CLIENT
        | {"KRONOS_BAKE"}  # of the Dockerfile
    )  # fmt: skip
    for page, text in pages().items():
        named = set(re.findall(rf"\b{VARIABLE}\b", text)) - {"KRONOS_", "POSTGRES_"}
        assert named - known == set(), page


def settings_page() -> str:
    """As the hook of the documentation writes it."""
    path = ROOT / "docs/hooks/reference_pages.py"
    spec = importlib.util.spec_from_file_location("reference_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.settings_page())


def first_cells(page: str) -> list[str]:
    return re.findall(r"^\| ([^|]+) \|", pages()[page], re.MULTILINE)


def variables_of(package: str) -> set[str]:
    """Names of environment variables that stand in the code."""
    return {text for text in texts(package) if re.fullmatch(VARIABLE, text)}


# messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", ["docs/operations/runbook.md", "docs/guides/kronos-forecasting.md"]
)
def test_a_log_line_that_is_explained_is_one_that_the_code_says(page: str) -> None:
    text = pages()[page]
    section = re.search(
        r"^## (?:By log line|When something is wrong)\n(.*?)^## ", text, re.M | re.S
    )
    assert section is not None
    explained = re.findall(r"^\| `([^`]+)` (?!gives)[^|]*\|", section[1], re.MULTILINE)
    assert len(explained) > 5
    for line in explained:
        pattern = ".*".join(map(re.escape, line.split("…")))
        said = texts("tradingbot") | texts("kronos_space")
        assert any(re.search(pattern, text, re.DOTALL) for text in said), line


@cache
def texts(package: str) -> frozenset[str]:
    """All strings of its code; what is put into one when it runs is `…`."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(value)):
                    found.add(value)
                case ast.JoinedStr(values=parts):
                    found.add("".join(
                        str(part.value) if isinstance(part, ast.Constant) else "…"
                        for part in parts
                    ))  # fmt: skip
    return frozenset(found)


# pages ------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation_where_the_guide_says() -> None:
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)["nav"]
    built = {"reference/commands.md", "reference/settings.md"}  # by docs/hooks
    named = [path for path in paths_of(nav) if path not in built]
    there = {page.removeprefix("docs/") for page in pages() if page.startswith("docs/")}
    assert sorted(named) == sorted(there)
    chapters = {title: content for entry in nav for title, content in entry.items()}
    assert {"Kronos Forecasting": "guides/kronos-forecasting.md"} in chapters["Guides"]
    [integrations] = [entry["Integrations"] for entry in chapters["API Reference"]
                      if "Integrations" in entry]  # fmt: skip
    assert {"Kronos Client": "api/kronos-client.md"} in integrations


def paths_of(nav: object) -> list[str]:
    match nav:
        case str(path):
            return [path]
        case list(entries):
            return [path for entry in entries for path in paths_of(entry)]
        case dict(chapters):
            return [path for content in chapters.values() for path in paths_of(content)]
    return []


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "kronos_space/README.md"])
def test_links_of_the_pages_that_mkdocs_does_not_check_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_paths_of_the_project_that_pages_name_are_there() -> None:
    known = ("tests", "examples", "benchmarks", "tradingbot", "kronos_space", "helm", "docs")
    for page, text in pages().items():
        for name in re.findall(rf"`((?:{'|'.join(known)})/[\w./-]+)`", text):
            assert Path(ROOT, name).exists(), f"{page}: {name}"
