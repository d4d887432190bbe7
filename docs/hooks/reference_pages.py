"""MkDocs hook: write the command reference from the Typer apps and the settings page from the code.

Both pages are generated at each build.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from kronos_space.deployment.commands import app as space_app
from kronos_space.settings import Settings as SpaceSettings
from tradingbot.ai import provider
from tradingbot.cli.main import app as job_app
from tradingbot.markets import custom_calendars
from tradingbot.persistence import url
from tradingbot.runtime import logs
from tradingbot.settings import Settings, job
from tradingbot.settings.commission import Commission
from tradingbot.settings.notification import Notification

COMMANDS = """# Commands

This page is generated from the commands. It shows the output of `--help`. In a clone the commands
are in `.venv/bin`. `kronos-space` needs the `space` extra ([install](../install.md)).
"""

SETTINGS = """# Settings

This page is generated from the code. Every setting is an environment variable. An empty variable
counts as unset. A line end at the end of a value is ignored, so that a file can hold a secret. A
wrong value ends a command with exit code 2 and one line that names the variable, the value and what
was expected.
"""
OF_TRADES = "KRONOS_SLIPPAGE_BPS"  # the only field of the job's settings that bots alone read


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/."""
    pages = {
        "reference/commands.md": command_pages(),
        "reference/settings.md": settings_page(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def command_pages() -> str:
    """Return the Markdown of all commands and their options."""
    apps = {"kronosbot": job_app, "kronos-space": space_app}
    parts = [
        part
        for name, app in apps.items()
        for part in _command(typer.main.get_command(app), name, level=2)
    ]
    return "\n\n".join([COMMANDS, *parts]) + "\n"


def settings_page() -> str:
    """Return the Markdown of all settings, a table for each part of the project."""
    of_job = _fields(Settings)
    tables = {
        "The nightly job and the client": [
            *(row for row in of_job if row[0] != OF_TRADES),
            *_fields(Notification),
            *_undefaulted(job.VARIABLES),
            *_undefaulted(custom_calendars.VARIABLES),
            *_undefaulted(logs.VARIABLES),
        ],
        "The database": _undefaulted(url.VARIABLES),
        "Paper trades of bots": [
            *(row for row in of_job if row[0] == OF_TRADES),
            *_fields(Commission),
        ],
        "Agents": _undefaulted(provider.VARIABLES),
        "The Space": _fields(SpaceSettings),
    }
    parts = [SETTINGS]
    for title, rows in tables.items():
        lines = [f"| `{name}` | {default} | {about} |" for name, default, about in rows]
        head = ["| Variable | Default | Meaning |", "|---|---|---|"]
        parts += [f"## {title}", "\n".join([*head, *lines])]
    return "\n\n".join(parts) + "\n"


def _fields(settings: type) -> list[tuple[str, str, str]]:
    """Return name, default and meaning of each variable that a dataclass declares."""
    rows = []
    for declared in fields(settings):
        if about := declared.metadata:
            default = about.get("default", "" if declared.default is None else declared.default)
            rows.append((about["env"], str(default), about["about"]))
    return rows


def _undefaulted(variables: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(name, "", about) for name, about in variables.items()]


def _command(command: Any, path: str, level: int) -> Iterator[str]:
    """Yield heading, help text and options of a command, then those of its subcommands."""
    context = command.make_context(path, [], resilient_parsing=True)
    yield f"{'#' * level} {path}"
    yield _in_markdown(command.help or "")
    yield f"```text\n{_usage(command, context)}\n```"
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in filter(None, records)]
    yield "\n".join(["| Option | Meaning |", "|---|---|", *rows])
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from _command(subcommand, f"{path} {name}", level + 1)


def _usage(command: Any, context: Any) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _in_markdown(text: str) -> str:
    """Turn a help text into Markdown: examples become a block of shell lines."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        first, *rest = paragraph.removeprefix("\b\n").splitlines()
        if paragraph.startswith("\b"):
            lines = "\n".join(line.strip() for line in rest)
            paragraphs.append(f"{first}\n\n```bash\n{lines}\n```")
        elif example := re.fullmatch(r"Try it: (.*)", paragraph):
            paragraphs.append(f"Try it: `{example[1]}`")
        else:
            paragraphs.append(re.sub(r"(?<![`\w])(--[a-z][a-z-]*)", r"`\1`", paragraph))
    return "\n\n".join(paragraphs)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
