"""MkDocs hook: write the command reference from the Typer apps and the settings page from the code.

Both pages are made at each build, so they cannot fall behind.
"""

import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from kronos_space.deployment.commands import app as space_app
from tradingbot.cli.main import app as job_app

COMMANDS = """# Commands

Made from the commands themselves: what `--help` prints, on one page. In a clone they are in
`.venv/bin`; `kronos-space` needs the `space` extra ([install](../install.md)).
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/."""
    pages = {"reference/commands.md": command_pages()}
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
