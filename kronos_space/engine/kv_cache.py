"""What a layer keeps of the bars it has seen: the context once, each path's own bars beside it."""

import torch
from torch import Tensor

MAX_SCORES = 2**24  # query-key products held at a time: many long paths must not fill the memory


class KVCache:
    """Keys and values of one layer, for series of one length.

    Of the context, shared by all paths of a series:
        keys: (series, heads, head_dim, bars), already transposed for q @ k
        values: (series, heads, bars, head_dim)
    Of the forecast so far, each path's own:
        own_keys, own_values: (series, heads, paths, steps, head_dim)
    """

    def __init__(self, keys: Tensor, values: Tensor, dtype: torch.dtype) -> None:
        """keys, values: (series, heads, bars, head_dim), of any type and layout."""
        self.keys = packed(keys.transpose(-1, -2), dtype)
        self.values = packed(values, dtype)
        self._own: Tensor | None = None  # (2, series, heads, paths, room, head_dim)
        self._steps = 0

    def reserve(self, paths: int, steps: int) -> None:
        """Make room for what `paths` paths add in `steps` steps."""
        series, heads, _, head_dim = self.values.shape
        self._own = self.values.new_empty(2, series, heads, paths, steps, head_dim)
        self._steps = 0

    def release(self) -> None:
        """Drop what the paths have added; the context stays."""
        self._own = None

    def attend(self, q: Tensor) -> Tensor:
        """q: (series, heads, paths, new, head_dim), scaled -> mixed values, same shape.

        Every query sees the whole context, and of its own path the bars up to itself.
        """
        series, heads, paths, new, _ = q.shape
        scores = series * heads * new * (self.values.shape[2] + self._steps)  # of one path
        at_a_time = max(1, MAX_SCORES // scores)
        return torch.cat(
            [
                self._attend(q[:, :, first : first + at_a_time], first)
                for first in range(0, paths, at_a_time)
            ],
            dim=2,
        )

    def _attend(self, q: Tensor, first: int) -> Tensor:
        """`attend` for the paths from `first` on."""
        paths, new = q.shape[2:4]
        bars = self.values.shape[2]
        shared = torch.unflatten(q.flatten(2, 3) @ self.keys, 2, (paths, new))
        if not self._steps:
            weights = torch.softmax(shared, dim=-1)
            return torch.unflatten(weights.flatten(2, 3) @ self.values, 2, (paths, new))
        own_keys, own_values = self.own[:, :, :, first : first + paths]
        own = q @ own_keys.transpose(-1, -2)  # (series, heads, paths, new, steps)
        if new > 1:
            own += causal_mask(new, self._steps, own.dtype)
        weights = torch.softmax(torch.cat([shared, own], dim=-1), dim=-1)
        mixed = weights[..., :bars].flatten(2, 3) @ self.values
        out: Tensor = torch.unflatten(mixed, 2, (paths, new)) + weights[..., bars:] @ own_values
        return out

    def append(self, k: Tensor, v: Tensor) -> None:
        """k, v: (series, heads, paths, new, head_dim): the newest bars of every path."""
        assert self._own is not None, "reserve() comes first"
        new = k.shape[-2]
        self._own[0, ..., self._steps : self._steps + new, :] = k
        self._own[1, ..., self._steps : self._steps + new, :] = v
        self._steps += new

    @property
    def own(self) -> Tensor:
        """Keys and values that the paths have added: (2, series, heads, paths, steps, dim)."""
        assert self._own is not None, "reserve() comes first"
        return self._own[..., : self._steps, :]


def causal_attention(q: Tensor, k: Tensor, v: Tensor, out: Tensor, block: int = 64) -> None:
    """Each bar attends to itself and to what came before. q is scaled.

    q, v, out: (series, heads, bars, head_dim), k: (series, heads, head_dim, bars).
    Queries are taken in blocks, so that what causality hides is hardly ever computed; the
    library's own kernel computes all of it at these lengths and took 1.4 times as long.
    """
    bars = q.shape[2]
    mask = causal_mask(block, block, q.dtype)
    for start in range(0, bars, block):
        end = min(start + block, bars)
        scores = q[:, :, start:end] @ k[..., :end]
        scores[..., start:end] += mask[: end - start, : end - start]
        out[:, :, start:end] = torch.softmax(scores, dim=-1) @ v[:, :, :end]


def packed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy without gaps, converted on the way: batched products then need no copies."""
    return torch.empty(x.shape, dtype=dtype).copy_(x)


def causal_mask(queries: int, keys: int, dtype: torch.dtype) -> Tensor:
    """0 where the last `queries` of `keys` bars may look, -inf elsewhere: (queries, keys)."""
    hidden = torch.ones(queries, keys, dtype=torch.bool).triu(1 + keys - queries)
    return torch.zeros(queries, keys, dtype=dtype).masked_fill(hidden, -torch.inf)
