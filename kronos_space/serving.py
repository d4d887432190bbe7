"""Load the models and serve them until the process is stopped.

Importing this module takes seconds, because it loads torch; `process` has checked the rest before.
"""

import gc
import os
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from kronos_space.app import create_app
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.process import fail, logger, say, shown_host
from kronos_space.server import file_descriptors
from kronos_space.server.connection import HEAD_BYTES, at_most
from kronos_space.settings import Settings, log_format_of
from kronos_space.weights.catalogue import CheckpointError, WrongCheckpoint, check_distinct
from kronos_space.weights.checkpoint import load_checkpoint


def serve(settings: Settings, listener: socket.socket) -> int:
    """Load the models and answer requests until a signal. Return 0 after an orderly stop.

    A model that cannot be loaded ends the process with a line: 2 if its name is wrong, else 1.
    """
    try:
        first, *others = map(load_checkpoint, settings.checkpoints)
        check_distinct([first.name, *(other.name for other in others)])
    except CheckpointError as error:
        fail(str(error), 2 if isinstance(error, WrongCheckpoint) else 1)
    app = create_app(settings, checkpoint=first, others=others)
    gc.collect()
    gc.freeze()  # these objects stay for good; spare the collector from scanning them
    config = uvicorn.Config(
        app,
        http=at_most(file_descriptors.raise_limit()),
        backlog=file_descriptors.PENDING,
        ws="none",
        log_config=None,
        access_log=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    server = _Server(config, app)
    try:
        server.run(sockets=[listener])
    except OSError as error:
        fail(f"cannot listen: {error.strerror}", 1)
    return 0


class _Server(uvicorn.Server):
    """uvicorn's server, which logs when it is ready and refuses new work once stopping."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        [listener] = sockets or []
        host, port = listener.getsockname()[:2]
        models = self._app.state.service.models.all
        logger.info(
            "ready: %s on http://%s:%d", ", ".join(map(_named, models)), shown_host(host), port
        )
        if log_format_of() != "json":  # for a terminal
            say(f"open http://{shown_host(host)}:{port} in a browser; Ctrl-C ends it")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:  # second Ctrl-C: stop at once
            os._exit(130)  # there is nothing to save
        self._app.state.service.worker.drain()
        super().handle_exit(sig, frame)


def _named(model: Forecaster) -> str:
    """Return the model's name, with its revision if it has one."""
    revision = model.model_revision
    return model.model_name + (f" at revision {revision}" if revision else "")
