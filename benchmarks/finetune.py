"""CPU seconds of a fine-tuning step for the shapes of Kronos-mini and kronos-nano.

make bench-finetune
"""

import statistics
import time

import torch

from kronos_space.finetune.run import LONG, SHORT
from kronos_space.finetune.training import Progress, Recipe, train
from kronos_space.finetune.windows import Windows
from kronos_space.model.config import KronosConfig
from kronos_space.model.transformer import Kronos
from kronos_space.weights.checkpoint import load_checkpoint

STEPS = 12
TARGET = 2.5  # target in core-seconds for a step of the shape of Kronos-mini


def made_up_windows(count: int, bars: int, bits: int) -> Windows:
    """Return windows of random tokens. Their values do not affect the time."""
    s1, s2 = torch.randint(2**bits, (2, count, bars))
    stamps = torch.stack([torch.randint(top, (count, bars)) for top in (60, 24, 7, 32, 13)], dim=-1)
    return Windows(s1, s2, stamps, torch.full((count,), bars * 3 // 4))


def seconds_of_steps(model: Kronos, batch: int, bars: int) -> list[float]:
    """Return the CPU seconds of each step, without validations."""
    windows = made_up_windows(batch, bars, model.config.s1_bits)
    recipe = Recipe(steps=10_000, batch=batch, bars=bars, learning_rate=1e-4, seed=0)
    steps = train(model, windows, windows.at(torch.tensor([0])), recipe, Progress())
    found = []
    next(steps)  # the first step includes set-up
    for _ in range(STEPS):
        began = time.process_time()
        next(steps)
        found.append(time.process_time() - began)
    return found


def main() -> None:
    """Print a row for each model."""
    torch.set_num_threads(1)
    print(f"{'model':<24}{'windows':>9}{'bars':>6}{'core-seconds a step':>22}{'range':>16}")
    for name, model, (batch, bars) in (
        ("shape of Kronos-mini", Kronos(KronosConfig()), LONG),
        ("kronos-nano", load_checkpoint("kronos-nano").model, SHORT),
    ):
        taken = seconds_of_steps(model, batch, bars)
        spread = f"{min(taken):.2f} to {max(taken):.2f}"
        print(f"{name:<24}{batch:>9}{bars:>6}{statistics.median(taken):>22.2f}{spread:>16}")
    print(f"target: at most {TARGET} for the shape of Kronos-mini, on one core of this machine")


if __name__ == "__main__":
    main()
