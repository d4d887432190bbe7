"""The command `kronos-space`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from kronos_space.deployment.errors import HubError, HubRefused, printable
from kronos_space.deployment.usage import Command, Group
from kronos_space.environment import environment
from kronos_space.finetune import command
from kronos_space.finetune.errors import FinetuneError

app = typer.Typer(
    subcommand_metavar="COMMAND [ARGS]",
    cls=Group,
    help="The Space that serves Kronos forecasts, and the models in it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def main() -> None:
    app()


@app.command(cls=Command, short_help="Deploy this version of the Space to the Hub.")
def deploy(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The Space on the Hub.")],
    variable: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set a variable, which anyone can read."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Set a secret to this environment variable's value."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the Space private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change; change nothing.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until the Space is up.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="The longest to wait.")
    ] = 1800,
) -> None:
    """Deploy this version of the Space to the Hub: create it, or change what differs.

    HF_TOKEN must be a write token, from https://huggingface.co/settings/tokens or saved by `hf auth
    login`. Progress goes to standard error, the Space's URL and its /health to standard output.
    Exit codes: 0 done; 1 the Hub is out of reach, or the Space does not start; 2 the token, the
    name or a value is wrong; 130 Ctrl-C.

    Preview the changes, with OWNER your name on the Hub:

    kronos-space deploy OWNER/kronos --dry-run
    """
    # imported here to keep --help fast: it loads huggingface_hub
    from kronos_space.deployment.run import run

    try:
        run(
            repo,
            variables=_pairs(variable or ()),
            secrets=_from_environment(secret or ()),
            private=private,
            dry_run=dry_run,
            timeout=None if no_wait else timeout,
            say=_say,
        )
    except HubError as error:
        _say(f"Error: {error}")
        raise typer.Exit(2 if isinstance(error, HubRefused) else 1) from None
    except KeyboardInterrupt:
        _say("stopped; changes made so far stay, and the Hub continues with them")
        raise typer.Exit(130) from None


app.command(cls=Command)(command.finetune)
app.command(cls=Command)(command.promote)


@app.command(short_help="Publish a fine-tuned checkpoint on the Hub.")
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A fine-tuned checkpoint.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the Hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make it public. Default: private.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Publish even if it is not better than its base.")
    ] = False,
) -> None:
    """Publish a fine-tuned checkpoint on the Hub, if it is better than its base.

    The model repository is created, or updated in one commit. It gets the files of the checkpoint
    and the folder's README.md as model card; paths of this machine are removed from kronos.json.
    The last line printed shows how a Space loads this revision.

    HF_TOKEN must be a write token, from https://huggingface.co/settings/tokens or saved by `hf auth
    login`. Exit codes: 0 done; 1 it is not better, or the Hub is out of reach; 2 the token or the
    name is wrong; 130 Ctrl-C.

    Try it, with OWNER your name on the Hub: kronos-space publish finetuned OWNER/my-kronos
    """
    # imported here to keep --help fast: it loads torch
    from kronos_space.deployment.publish import run
    from kronos_space.weights.catalogue import CheckpointError

    try:
        run(folder, repo, public=public, force=force, say=_say)
    except (FinetuneError, CheckpointError, HubError) as error:
        _say(f"Error: {error}")
        raise typer.Exit(2 if isinstance(error, HubRefused) else 1) from None
    except KeyboardInterrupt:
        _say("stopped; run the same command to continue")
        raise typer.Exit(130) from None


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise HubRefused(f"--variable {text}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


def _from_environment(names: Iterable[str]) -> dict[str, str]:
    secrets, environ = {}, environment()
    for name in names:
        if "=" in name:  # it may be a secret: do not print it
            raise HubRefused(
                f"--secret {name.partition('=')[0]}=…: a command line is not safe for a secret; "
                "put it into the environment and give its name alone"
            )
        secrets[name] = environ.get(name, "")
        if not secrets[name]:
            raise HubRefused(f"--secret {name}: {name} is not set in the environment")
    return secrets


def _say(line: str) -> None:
    typer.echo(printable(line), err=True)


if __name__ == "__main__":
    main()
