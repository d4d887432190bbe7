"""Make one small forecast before a checkpoint is used; NaN weights raise no error elsewhere."""

import torch

from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos

BARS = 8


def numeric_fault(model: Kronos, tokenizer: KronosTokenizer) -> str | None:
    """Return what makes the forecasts NaN or infinite, or None.

    Looking at the tensors is not enough: products of finite values can overflow.
    """
    for part, module in (("model", model), ("tokenizer", tokenizer)):
        for name, parameter in module.named_parameters():
            if not torch.isfinite(parameter).all():
                return f"the {part}'s {name} holds a NaN or an infinite number"
    with torch.inference_mode():
        angles = torch.arange(BARS * tokenizer.config.d_in).reshape(1, BARS, -1)
        s1, s2 = tokenizer.encode(angles.float().sin())
        hidden = model.hidden(s1, s2, torch.ones(1, BARS, 5, dtype=torch.long))
        coarse = model.s1_logits(hidden[:, -1])
        next_s1 = coarse.argmax(dim=-1)
        fine = model.s2_logits(hidden, next_s1)
        next_s2 = fine.argmax(dim=-1)
        bars = tokenizer.decode(
            torch.cat([s1, next_s1[:, None]], dim=1), torch.cat([s2, next_s2[:, None]], dim=1)
        )
        if not all(torch.isfinite(numbers).all() for numbers in (coarse, fine, bars)):
            return "a trial forecast gives a NaN or an infinite number"
    return None
