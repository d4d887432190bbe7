"""The command `kronos-space`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from kronos_space.deployment.errors import HubError, HubRefused, printable
from kronos_space.deployment.usage import Command, Group
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


@app.command(cls=Command, short_help="Bring this version of the Space onto the Hub.")
def deploy(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The Space on the Hub.")],
    variable: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set a variable; everybody can read it."),
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
    """Bring this version of the Space onto the Hub: create it, or change what differs.

    HF_TOKEN is a write token, from https://huggingface.co/settings/tokens; one saved by `hf auth
    login` will do. What happens is told on standard error; standard output is the Space's address
    and what its /health answers. Exit codes: 0 done; 1 the Hub is out of reach, or the Space does
    not come up; 2 the token, the name or a value is wrong; 130 Ctrl-C.

    Look first, with OWNER your name on the Hub: kronos-space deploy OWNER/kronos --dry-run
    """
    from kronos_space.deployment.run import run  # not for --help: it loads huggingface_hub

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
        _say("stopped; what was changed stays, and the Hub goes on by itself")
        raise typer.Exit(130) from None


app.command(cls=Command)(command.finetune)
app.command(cls=Command)(command.promote)


@app.command(short_help="Bring a fine-tuned checkpoint onto the Hub.")
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A fine-tuned checkpoint.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the Hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see it. Default: private.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Although it is not better than its base.")
    ] = False,
) -> None:
    """Bring a fine-tuned checkpoint onto the Hub, if its verdict is good.

    The model is created, or gets what differs in one commit. Its files are those of the folder, and
    its card is the folder's README.md; the paths of this machine in kronos.json are left out. What
    is printed last is how a Space loads this revision.

    HF_TOKEN is a write token, from https://huggingface.co/settings/tokens; one saved by `hf auth
    login` will do. Exit codes: 0 done; 1 it is not better, or the Hub is out of reach; 2 the token
    or the name is wrong; 130 Ctrl-C.

    Try it, with OWNER your name on the Hub: kronos-space publish finetuned OWNER/my-kronos
    """
    # not above: for --help torch would be loaded
    from kronos_space.deployment.publish import run
    from kronos_space.weights.catalogue import CheckpointError

    try:
        run(folder, repo, public=public, force=force, say=_say)
    except (FinetuneError, CheckpointError, HubError) as error:
        _say(f"Error: {error}")
        raise typer.Exit(2 if isinstance(error, HubRefused) else 1) from None
    except KeyboardInterrupt:
        _say("stopped; the same command goes on")
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
    secrets = {}
    for name in names:
        if "=" in name:  # and do not show it again
            raise HubRefused(
                f"--secret {name.partition('=')[0]}=…: a command line is no place for a secret; "
                "put it into the environment and give its name alone"
            )
        value = os.environ.get(name, "")
        secrets[name] = value.lstrip("\ufeff").rstrip("\r\n")  # a file's own marks
        if not secrets[name]:
            raise HubRefused(f"--secret {name}: {name} is not set in the environment")
    return secrets


def _say(line: str) -> None:
    typer.echo(printable(line), err=True)


if __name__ == "__main__":
    main()
