"""Read and write a model in the Hub's format: `config.json` and `model.safetensors` in a folder."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors.torch import load_file, save_file
from torch import nn

from kronos_space.model.layers import init_weights

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

# Tensors that follow from the shapes, or are only for training. A checkpoint may omit them.
DISPENSABLE = ("rotary.inv_freq", "tokenizer.bsq.", "post_quant_embed_pre.")


class WrongTensors(ValueError):
    """A file has missing or unexpected tensors."""


class Pretrained(nn.Module):
    """A module built from its configuration, and loaded from a published file.

    `fill` initialises the weights, for training; otherwise their values are undefined until loaded.
    """

    config_class: ClassVar[type[Any]]
    name_or_path = ""  # the folder from which it was loaded

    def __init__(self, config: Any, *, fill: bool = True) -> None:  # noqa: ARG002 - subclasses' own
        super().__init__()
        self.config = config

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Return the module in a folder, float32, in eval mode.

        Raises:
            WrongTensors: The file has missing or unexpected tensors.
            OSError, ValueError, TypeError, RuntimeError, SafetensorError: Another fault of a file.
        """
        folder = Path(folder)
        config = dict(json.loads((folder / CONFIG_FILE).read_text()))
        known = {field.name for field in fields(cls.config_class)}
        shape = cls.config_class(**{k: v for k, v in config.items() if k in known})
        module = cls(shape, fill=False)
        tensors = load_file(folder / WEIGHTS_FILE)
        missing, unexpected = module.load_state_dict(tensors, strict=False)
        _refuse("lacks", (n for n in missing if not any(part in n for part in DISPENSABLE)))
        _refuse("has unknown", unexpected)
        for name in missing:
            init_weights(module.get_submodule(name.rpartition(".")[0]))
        module.name_or_path = str(folder)
        return module.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write both files into `folder`, which is created if needed."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        save_file(self.state_dict(), folder / WEIGHTS_FILE)


def _refuse(problem: str, names: Iterable[str]) -> None:
    if names := sorted(names):
        raise WrongTensors(
            f"{problem} tensors {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        )
