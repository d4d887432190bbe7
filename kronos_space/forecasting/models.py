"""The models of one service: each checkpoint with its engine, asked by name."""

from collections.abc import Sequence

from kronos_space.engine.batch import Paths, Prompt
from kronos_space.engine.engine import Steps
from kronos_space.error_messages import shown
from kronos_space.exceptions import InvalidRequest
from kronos_space.forecasting.forecaster import Forecaster, Prepared
from kronos_space.schemas import ForecastRequest
from kronos_space.settings import Settings
from kronos_space.weights.catalogue import check_distinct
from kronos_space.weights.checkpoint import Checkpoint


class Models:
    """One or more models. The first one answers requests that name none.

    Raises:
        WrongCheckpoint: Two have the same name, so that none could be asked by it.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], settings: Settings) -> None:
        check_distinct([one.name for one in checkpoints])
        self._by_name = {one.name: Forecaster(one, settings) for one in checkpoints}

    @property
    def all(self) -> list[Forecaster]:
        return [*self._by_name.values()]

    @property
    def first(self) -> Forecaster:
        return self.all[0]

    def of(self, name: str | None) -> Forecaster:
        """Return the model of this name, with or without its owner; None: the first.

        Raises:
            InvalidRequest: There is none of this name.
        """
        if name is None:
            return self.first
        for known, model in self._by_name.items():
            if name.casefold() in (known.casefold(), known.rpartition("/")[2].casefold()):
                return model
        message = f"model {shown(name)}: expected one of {', '.join(self._by_name)}"
        raise InvalidRequest(message, [("model", message)])

    def prepare(self, request: ForecastRequest) -> Prepared:
        """Everything before the engine, by the model that the request names.

        Raises:
            InvalidHistory, InvalidRequest: As `Forecaster.prepare` and `of`.
        """
        return self.of(request.model).prepare(request)

    def work(self, prompts: Sequence[Prompt]) -> Steps[list[Paths]]:
        """Step by step the paths of every prompt, each by its own model, one after the other."""
        found: dict[int, Paths] = {}
        for name in dict.fromkeys(prompt.model for prompt in prompts):
            at = [number for number, prompt in enumerate(prompts) if prompt.model == name]
            paths = yield from self._by_name[name].work([prompts[number] for number in at])
            found.update(zip(at, paths, strict=True))
        return [found[number] for number in range(len(prompts))]
