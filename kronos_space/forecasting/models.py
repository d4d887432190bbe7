"""The models of one service, each a checkpoint with its engine, selected by name."""

from collections.abc import Sequence

from kronos_space.engine.batch import Paths, Prompt
from kronos_space.engine.lanes import Steps
from kronos_space.error_messages import shown
from kronos_space.exceptions import InvalidRequest
from kronos_space.forecasting.forecaster import Forecaster, Prepared
from kronos_space.schemas import ForecastRequest
from kronos_space.settings import Settings
from kronos_space.weights.catalogue import check_distinct
from kronos_space.weights.checkpoint import Checkpoint


class Models:
    """One or more models. The first model answers requests that name no model.

    Raises:
        WrongCheckpoint: Two models share a name.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], settings: Settings) -> None:
        check_distinct([checkpoint.name for checkpoint in checkpoints])
        self._by_name = {
            checkpoint.name: Forecaster(checkpoint, settings) for checkpoint in checkpoints
        }

    @property
    def all(self) -> list[Forecaster]:
        return [*self._by_name.values()]

    @property
    def first(self) -> Forecaster:
        return self.all[0]

    def of(self, name: str | None) -> Forecaster:
        """Return the model with this name, or the first model for None.

        The owner may be left out: `Kronos-mini` names `NeoQuasar/Kronos-mini`.

        Raises:
            InvalidRequest: There is no model of this name.
        """
        if name is None:
            return self.first
        for known, model in self._by_name.items():
            if name.casefold() in (known.casefold(), known.rpartition("/")[2].casefold()):
                return model
        message = f"model {shown(name)}: expected one of {', '.join(self._by_name)}"
        raise InvalidRequest(message, [("model", message)])

    def prepare(self, request: ForecastRequest) -> Prepared:
        """Prepare a request for the engine of the model that it names.

        Raises:
            InvalidHistory, InvalidRequest: As `Forecaster.prepare` and `of`.
        """
        return self.of(request.model).prepare(request)

    def work(self, prompts: Sequence[Prompt]) -> Steps[list[Paths]]:
        """Generate the paths of all prompts step by step, each by its own model."""
        found: dict[int, Paths] = {}
        for name in dict.fromkeys(prompt.model for prompt in prompts):
            at = [number for number, prompt in enumerate(prompts) if prompt.model == name]
            paths = yield from self._by_name[name].work([prompts[number] for number in at])
            found.update(zip(at, paths, strict=True))
        return [found[number] for number in range(len(prompts))]
