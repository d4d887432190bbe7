"""What belongs into a Space's repository: every file by its name.

A Space is public, and a folder collects what nobody means to publish: keys, databases, notes. So
nothing is uploaded because it lies there. A new file of the service is named here; a test compares.
"""

from pathlib import Path

from kronos_space.deployment.errors import HubRefused

NOT_SERVED = {
    "deployment",
    "finetune",
    "verification",
}  # what a running Space never needs; .dockerignore too

# Folder -> its files; "" is kronos_space itself.
CONTENTS = {
    "": (
        ".dockerignore Dockerfile README.md __init__.py __main__.py answers.py app.py "
        "error_messages.py exceptions.py path_events.py process.py requirements.lock "
        "requirements.txt schemas.py settings.py torch-cpu.lock"
    ),
    "checkpoints/kronos-nano": "README.md kronos.json",
    "checkpoints/kronos-nano/model": "config.json model.safetensors",
    "checkpoints/kronos-nano/tokenizer": "config.json model.safetensors",
    "engine": (
        "__init__.py batch.py engine.py fused.py hardware.py kv_cache.py quantiles.py sampling.py "
        "worker.py"
    ),
    "forecasting": (
        "__init__.py anchoring.py bar_schedule.py candle_warnings.py candles.py forecaster.py "
        "models.py timestamps.py"
    ),
    "model": "__init__.py config.py layers.py pretrained.py tokenizer.py transformer.py",
    "server": (
        "__init__.py bodies.py connection.py errors.py file_descriptors.py json_splitting.py "
        "logs.py mcp.py mcp_tools.py metrics.py middleware.py openapi.py pages.py "
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
    """Return the files of a Space's repository: their names there, and where they are.

    Raises:
        HubRefused: One is missing, or a link, which may lead to anything.
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
