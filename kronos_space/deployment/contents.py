"""The files of a Space's repository, each by name.

A Space is public, and its folder may also contain keys, databases or notes. Only files named here
are uploaded. Add each new file of the service; a test compares the list with the folder.
"""

from pathlib import Path

from kronos_space.deployment.errors import HubRefused

NOT_SERVED = {
    "deployment",
    "finetune",
    "verification",
}  # not needed by a running Space; also in .dockerignore

# Folder -> its files; "" is kronos_space itself.
CONTENTS = {
    "": (
        ".dockerignore Dockerfile README.md __init__.py __main__.py answers.py app.py "
        "environment.py error_messages.py exceptions.py process.py "
        "requirements.lock requirements.txt schemas.py serving.py settings.py torch-cpu.lock"
    ),
    "checkpoints/kronos-nano": "README.md kronos.json",
    "checkpoints/kronos-nano/model": "config.json model.safetensors",
    "checkpoints/kronos-nano/tokenizer": "config.json model.safetensors",
    "engine": (
        "__init__.py batch.py engine.py fused.py hardware.py kv_cache.py lanes.py passes.py "
        "products.py quantiles.py sampling.py worker.py"
    ),
    "forecasting": (
        "__init__.py anchoring.py bar_schedule.py candle_warnings.py candles.py forecaster.py "
        "models.py timestamps.py"
    ),
    "path_events": "__init__.py event_probabilities.py grammar.py",
    "model": "__init__.py config.py layers.py pretrained.py tokenizer.py transformer.py",
    "server": (
        "__init__.py bodies.py connection.py errors.py file_descriptors.py json_splitting.py "
        "logs.py mcp.py mcp_messages.py mcp_tools.py metrics.py middleware.py openapi.py pages.py "
        "read_scheduling.py reader.py"
    ),
    "static": (
        "answer.js candles.js cells.js chart.js docs.css docs.html docs.js fan.html headings.js "
        "icon.svg index.html page.css page.js"
    ),
    "static/samples": "AAPL.csv GOOG.csv IBM.csv MSFT.csv README.md",
    "weights": "__init__.py catalogue.py checkpoint.py download.py sanity_check.py",
}


def uploaded_files(folder: Path) -> dict[str, Path]:
    """Return name in the Space's repository -> path on this machine.

    Raises:
        HubRefused: A file is missing, or is a symbolic link, which may point anywhere.
    """
    names = [
        f"{below}/{name}".lstrip("/") for below, names in CONTENTS.items() for name in names.split()
    ]
    root = folder.resolve()
    for name in names:
        if not (root / name).is_file() or (root / name).resolve() != root / name:
            raise HubRefused(
                f"{folder / name} is missing, or a link: install the package again; a Space gets "
                "its own files and nothing else"
            )
    return {name: folder / name for name in sorted(names)}
