"""The commands `kronos-space finetune` and `kronos-space promote`."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from kronos_space.environment import let_threads_sleep
from kronos_space.finetune.errors import FinetuneError


def finetune(
    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Source of candles: csv:DIR (one file per ticker), a CSV file, yahoo, or sample.",
        ),
    ],
    symbols: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="The tickers. Default: all of csv:DIR or sample."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="Last day to learn from; later days are for the verdict. Default: three "
            "quarters of the days.",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="Maximum number of training steps.")
    ] = 300,
    base: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Base model: a known model, or a checkpoint folder."),
    ] = "kronos-mini",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed for drawing windows.")] = 0,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The checkpoint folder to write.")
    ] = Path("finetuned"),
) -> None:
    """Fine-tune a model on candles, and test whether it improved.

    The newest 15 % of the days up to --until are for validation, and the days after it for the
    verdict: no weight is learnt or chosen from those. The verdict compares the new model with its
    base and with a random walk, with the nightly job's settings. After Ctrl-C the folder contains
    the best weights so far, without a verdict, and the same command resumes. KRONOS_THREADS sets
    the number of threads.

    Exit codes: 0 done, whatever the verdict; 1 no candles, or a disk that is full; 2 a wrong
    setting; 130 Ctrl-C.

    \b
    Try it:
      kronos-space finetune --source csv:DIR --base kronos-nano --steps 200
    """
    # imported here, because --help should not load torch and pandas
    from tradingbot.runtime.signals import Stopped, exit_on_signals, stop_on_signals

    # during the following imports
    exit_on_signals(lambda line: f"{line}; the same command resumes")
    let_threads_sleep()
    import torch

    from kronos_space.engine.hardware import usable_cpus
    from kronos_space.finetune.run import Job
    from kronos_space.finetune.run import finetune as run
    from kronos_space.settings import Settings as SpaceSettings
    from kronos_space.settings import SettingsError
    from kronos_space.weights.catalogue import CheckpointError
    from tradingbot.errors import ConfigError, KronosError
    from tradingbot.runtime.progress import ProgressReporter
    from tradingbot.settings import Settings, check_source, check_symbols

    with ProgressReporter() as reporter:
        try:
            torch.set_num_threads(SpaceSettings.from_env().threads or usable_cpus())
            source, named = _one_file(source)
            tickers = check_symbols("--symbols", symbols) if symbols is not None else named
            settings = replace(Settings.from_env(), data_source=check_source("--source", source))
            day = None if until is None else until.date()
            job = Job(settings.data_source, tickers, day, steps, base, seed, out)
            with stop_on_signals():
                about = run(job, settings, reporter)
        except (FinetuneError, CheckpointError, KronosError, SettingsError) as error:
            reporter.end()
            _say(f"Error: {error}")
            wrong = isinstance(error, ConfigError | SettingsError)
            raise typer.Exit(2 if wrong else 1) from None
        except Stopped as stopped:
            reporter.end()
            _say(f"Stopped by {stopped}; the same command resumes")
            raise typer.Exit(stopped.exit_code) from None
        reporter.end()
    _show(out, about)


def promote(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A fine-tuned checkpoint.")],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The folder that KRONOS_MODEL names.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Promote it even if it is not better than its base.")
    ] = False,
) -> None:
    """Copy a checkpoint to the folder from which a Space loads it, if its verdict is good.

    The previous checkpoint is kept as TARGET.old. Restart the Space afterwards.

    Exit codes: 0 done; 1 it is not better, or cannot be copied.

    Try it: kronos-space promote finetuned /srv/kronos/model
    """
    from kronos_space.finetune.checkpoint import promote as put

    try:
        put(folder, target, force=force)
    except FinetuneError as error:
        _say(f"Error: {error}")
        raise typer.Exit(1) from None
    typer.echo(f"{target} is {folder} now; the previous checkpoint is {target}.old")


def _one_file(source: str) -> tuple[str, tuple[str, ...]]:
    """Split a CSV file into its folder and its ticker.

    Return other sources unchanged, without tickers.
    """
    file = Path(source).expanduser()
    if file.suffix.lower() == ".csv" and file.is_file():
        return f"csv:{file.parent}", (file.stem.upper(),)
    return source, ()


def _show(folder: Path, about: dict[str, Any]) -> None:
    verdict = about["verdict"]
    typer.echo(f"{about['name']}: {verdict['sentence']}")
    typer.echo(
        f"{verdict['n']:,} forecasts of {verdict['sessions']} sessions after {about['until']}"
    )
    typer.echo(f"Written to {folder}; its README.md is the model card")
    if verdict["better"]:
        typer.echo(f"Use it: KRONOS_MODEL={folder} make serve")


def _say(line: str) -> None:
    typer.echo(line, err=True)
