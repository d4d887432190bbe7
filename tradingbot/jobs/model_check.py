"""Check the models of KRONOS_MODELS as a run would find them, without waking a Space."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tradingbot.errors import KronosError, SpaceUnavailable
from tradingbot.settings import Settings
from tradingbot.settings.models import AskedModel
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.connect import check_space_is_known, settings_of_model
from tradingbot.space.hub import FAILED, STILL, HubSpace
from tradingbot.space.served_models import find_model, revision_of


@dataclass(frozen=True)
class CheckedModel:
    """One model of KRONOS_MODELS.

    Attributes:
        name: The model's name in KRONOS_MODELS.
        role: "champion" or "challenger".
        verdict: "ok", "asleep" or "failed". "asleep": unknown until a run wakes the Space.
        space: The Space's name on the Hub, or its address.
        served_as: The Space's name for the model. None: the Space was not asked, or lacks it.
        revision: The model's revision, as reported by the Space.
        note: Why the verdict is not "ok".
    """

    name: str
    role: str
    verdict: str
    space: str
    served_as: str | None = None
    revision: str | None = None
    note: str | None = None


def check_models(settings: Settings) -> list[CheckedModel]:
    """Check that each model of KRONOS_MODELS is served by its Space. Ask each Space once.

    Never raises KronosError: a failure is part of the result.
    """
    known: dict[str, Mapping[str, Any] | KronosError | str] = {}
    found = []
    for number, asked in enumerate(settings.models):
        role = "challenger" if number else "champion"
        try:
            of_model = settings_of_model(settings, asked) if asked.is_elsewhere else settings
        except KronosError as error:
            found.append(CheckedModel(asked.name, role, "failed", asked.name, note=str(error)))
            continue
        if of_model.space_name not in known:
            known[of_model.space_name] = _state(of_model)
        found.append(_checked(asked, role, of_model, known[of_model.space_name]))
    return found


def _checked(
    asked: AskedModel,
    role: str,
    space_settings: Settings,
    state: Mapping[str, Any] | KronosError | str,
) -> CheckedModel:
    if isinstance(state, str):
        note = f"its Space is {state}; a run wakes it"
        return CheckedModel(asked.name, role, "asleep", space_settings.space_name, note=note)
    try:
        if isinstance(state, KronosError):
            raise state
        name = find_model(state, asked, setting="KRONOS_MODELS", url=space_settings.space_url or "")
    except KronosError as error:
        return CheckedModel(asked.name, role, "failed", space_settings.space_name, note=str(error))
    revision = revision_of(state, name)
    return CheckedModel(asked.name, role, "ok", space_settings.space_name, name, revision)


def _state(settings: Settings) -> Mapping[str, Any] | KronosError | str:
    """Return a Space's health, the error on asking, or the stage of a Space that does not run."""
    try:
        check_space_is_known(settings, local=False)
        if settings.hf_token is not None and settings.hf_space_repo:
            hub = HubSpace(settings.hf_space_repo, settings.hf_token, timeouts=settings.timeouts)
            stage = hub.until(time.monotonic() + settings.timeouts.hub_answer).stage()
            if stage in STILL:
                return stage
            if stage in FAILED:
                return SpaceUnavailable(f"Space {settings.hf_space_repo} is {stage}")
        with SpaceClient(SpaceAddress.of(settings)) as client:
            return client.health()
    except KronosError as error:
        return error
