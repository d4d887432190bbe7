"""What a layer keeps of the bars it has seen: the context once, each path's own bars behind it."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCORES = 2**24  # query-key products held at a time: many long paths must not fill the memory
OWN_KEYS = 256  # keys of paths that may lie behind a context which is shorter than this


@dataclass(frozen=True)
class Room:
    """What the paths of a series may add to a cache."""

    paths: int
    steps: int  # of each path


class KVCache:
    """Keys and values of one layer, for series of one length.

    A buffer holds the context's bars, which all paths of a series share, and behind them what the
    paths add: so one product gives the scores of all paths, and a mask hides from each what belongs
    to the others. Those scores are wasted, so behind a context lie no more keys of paths than it
    has bars itself (or OWN_KEYS). Where paths need more room, they are dealt into parts of one
    size, the last one filled up, and each part has a copy of the context.
    """

    def __init__(self, k: Tensor, v: Tensor, room: Room, dtype: torch.dtype) -> None:
        """k, v: (series, bars, heads, head_dim) of the context, of any type and layout."""
        self.series, self.bars, self.heads, self.head_dim = k.shape
        self.dtype = dtype
        parts, paths = self._parts(room)
        own = paths * room.steps if parts == 1 else 0
        # each (1, series, heads, bars + own, head_dim)
        self._first = [self._buffer(x.transpose(1, 2), 1, own) for x in (k, v)]
        self.keys, self.values = (
            buffer[0, :, :, : self.bars].flatten(0, 1) for buffer in self._first
        )  # of the context: (series · heads, bars, head_dim)
        self.release()

    def reserve(self, room: Room) -> None:
        """Make room for paths, instead of those before."""
        self._deal, self._steps = self._parts(room), 0
        parts, paths = self._deal
        if parts > 1 or paths * room.steps > self._first[0].shape[3] - self.bars:
            contexts = [buffer[0, :, :, : self.bars] for buffer in self._first]
            self._buffers = [self._buffer(x, parts, paths * room.steps) for x in contexts]
        else:
            self._buffers = self._first

    def release(self) -> None:
        """Drop what the paths have added; the context stays."""
        self._buffers, self._deal, self._steps = self._first, (1, 1), 0

    def append(self, k: Tensor, v: Tensor) -> None:
        """k, v: (series, paths, new, heads, head_dim): the newest bars of every path."""
        paths, new = self._deal[1], k.shape[2]
        first = self.bars + self._steps * paths
        for buffer, added in zip(self._buffers, (k, v), strict=True):
            place = buffer[:, :, :, first : first + paths * new]
            torch.unflatten(place, 3, (paths, new)).copy_(self._dealt(added))
        self._steps += new

    def attend(self, q: Tensor) -> Tensor:
        """q: (series, paths, new, heads, head_dim), scaled -> mixed values, same shape.

        Every query sees the whole context, and of its own path the bars up to itself.
        """
        parts, paths = self._deal
        new, keys = q.shape[2], self._buffers[0].shape[3]
        queries = torch.empty(
            parts, self.series, self.heads, paths, new, self.head_dim, dtype=self.dtype
        ).copy_(self._dealt(q))
        at_a_time = max(1, MAX_SCORES // (queries[0].numel() // self.head_dim * keys))
        of_parts = (torch.split(x, at_a_time) for x in (queries, *self._buffers))
        mixed = [self._attend(*some) for some in zip(*of_parts, strict=True)]
        whole = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
        # (parts, series, heads, paths, new, head_dim) -> as q
        return whole.permute(1, 0, 3, 4, 2, 5).flatten(1, 2)[:, : q.shape[1]]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q: (parts, series, heads, paths, new, head_dim) -> same; k, v: buffers of these parts.

        All their room is multiplied, also where nothing is yet: a product copies what has gaps.
        """
        paths, new = q.shape[3:5]
        scores = torch.bmm(q.flatten(0, 2).flatten(1, 2), k.flatten(0, 2).transpose(1, 2))
        if room := k.shape[3] - self.bars:
            scores[..., self.bars :] += own_mask(paths, new, self._steps, room, self.dtype)
        return torch.bmm(torch.softmax(scores, dim=-1), v.flatten(0, 2)).view(q.shape)

    def _dealt(self, x: Tensor) -> Tensor:
        """(series, all paths, new, heads, head_dim)
        -> (parts, series, heads, paths, new, head_dim)."""
        parts, paths = self._deal
        if missing := parts * paths - x.shape[1]:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, missing))
        return torch.unflatten(x, 1, (parts, paths)).permute(1, 0, 4, 2, 3, 5)

    def _parts(self, room: Room) -> tuple[int, int]:
        """Into how many parts the paths are dealt, and how many are in each."""
        steps = max(1, room.steps)
        keys = max(self.bars, OWN_KEYS)
        scores = self.series * self.heads * steps * 2 * keys  # of one path, at most
        most = max(1, min(keys // steps, MAX_SCORES // scores))
        parts = -(-room.paths // most)
        return parts, -(-room.paths // parts)

    def _buffer(self, context: Tensor, parts: int, own: int) -> Tensor:
        """context: (series, heads, bars, head_dim)
        -> (parts, series, heads, bars + own, head_dim)."""
        buffer = torch.empty(
            parts, self.series, self.heads, self.bars + own, self.head_dim, dtype=self.dtype
        )
        buffer[:, :, :, : self.bars] = context
        buffer[:, :, :, self.bars :] = 0  # hidden, but what the memory held may be no number
        return buffer


def causal_attention(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Each bar attends to itself and to what came before. q is scaled.

    q, k, v: (series · heads, bars, head_dim), out: (series, bars, heads, head_dim).
    Queries are taken in blocks, so that what causality hides is hardly ever computed; the
    library's own kernel took 1.4 to 2 times as long.
    """
    batch, bars, _ = q.shape
    block = 64 if batch >= 16 else 128  # fewer and larger products where there are few series
    mask = causal_mask(block, q.dtype)
    for start in range(0, bars, block):
        end = min(start + block, bars)
        seen = k[:, :end]
        if q.dtype == torch.bfloat16:  # whose product would copy it, transposed, which is slow
            seen = seen.contiguous()
        scores = torch.bmm(q[:, start:end], seen.transpose(1, 2))
        scores[..., start:] += mask[: end - start, : end - start]
        mixed = torch.bmm(torch.softmax(scores, dim=-1), v[:, :end])
        out[:, start:end] = torch.unflatten(mixed, 0, (out.shape[0], -1)).transpose(1, 2)


@lru_cache(maxsize=8)
def causal_mask(bars: int, dtype: torch.dtype) -> Tensor:
    """0 where a bar may look, -inf elsewhere: (bars, bars)."""
    return torch.full((bars, bars), -torch.inf, dtype=dtype).triu(1)


@lru_cache(maxsize=32)
def own_mask(paths: int, new: int, steps: int, room: int, dtype: torch.dtype) -> Tensor:
    """0 where a query sees a bar of its own path and not of the future, -inf elsewhere.

    (paths · new, room): the keys in the order in which they were added, `new` steps of every path
    at a time, `steps` in all; the queries are the newest.
    """
    mask = torch.full((paths * new, room), -torch.inf, dtype=dtype)
    if steps:
        own = torch.eye(paths, dtype=torch.bool)
        before = torch.kron(own, torch.ones(new, new, dtype=torch.bool))
        newest = torch.kron(own, torch.ones(new, new, dtype=torch.bool).tril())
        seen = torch.cat([*[before] * (steps // new - 1), newest], dim=1)
        mask[:, : seen.shape[1]].masked_fill_(seen, 0)
    return mask
