"""Key-value cache of one layer: the context once, followed by the bars of each path."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCORES = 2**24  # query-key products in memory at a time; limits the memory of long paths
MIN_PATH_KEYS = 256  # keys of paths that may follow a context with fewer bars than this


@dataclass(frozen=True)
class Room:
    """The size of the paths that a cache has to hold."""

    paths: int
    steps: int  # per path


class KVCache:
    """Keys and values of one layer, for series of one length.

    A buffer holds the bars of the context, followed by the bars of the paths. All paths of a series
    share the context, so one product gives the scores of all paths. A mask hides the bars of other
    paths from each path. Computing hidden scores is wasted work, so a buffer has no more path bars
    than context bars (or MIN_PATH_KEYS, if that is more). Paths that need more space are split into
    parts of equal size, each with a copy of the context. The last part is padded.
    """

    def __init__(self, context: tuple[int, int, int, int], room: Room, dtype: torch.dtype) -> None:
        """Reserve space. context: the numbers of series, bars, heads, and dimensions of a head."""
        self.series, self.bars, self.heads, self.head_dim = context
        self.dtype = dtype
        parts, paths = self._parts(room)
        path_bars = paths * room.steps if parts == 1 else 0
        # each (1, series, heads, bars + path bars, head_dim)
        self._first = [self._buffer(1, path_bars) for _ in range(2)]
        self.keys, self.values = (
            buffer[0, :, :, : self.bars].flatten(0, 1) for buffer in self._first
        )  # of the context: (series · heads, bars, head_dim)
        self.release()

    def store(self, k: Tensor, v: Tensor, first: int = 0) -> None:
        """Store bars of the contexts, from bar `first` on.

        k, v: (series, some bars, heads, head_dim), of any type and layout.
        """
        for buffer, added in zip(self._first, (k, v), strict=True):
            buffer[0, :, :, first : first + added.shape[1]] = added.transpose(1, 2)

    def reserve(self, room: Room) -> None:
        """Reserve space for new paths, replacing the previous ones."""
        self._split, self._steps = self._parts(room), 0
        parts, paths = self._split
        if parts > 1 or paths * room.steps > self._first[0].shape[3] - self.bars:
            self._buffers = [self._buffer(parts, paths * room.steps) for _ in range(2)]
            for buffer, first in zip(self._buffers, self._first, strict=True):
                buffer[:, :, :, : self.bars] = first[:, :, :, : self.bars]
        else:
            self._buffers = self._first

    def release(self) -> None:
        """Drop the bars of the paths; the context stays."""
        self._buffers, self._split, self._steps = self._first, (1, 1), 0

    def append(self, k: Tensor, v: Tensor) -> None:
        """Append the newest bars of every path. k, v: (series, paths, new, heads, head_dim)."""
        paths, new = self._split[1], k.shape[2]
        first = self.bars + self._steps * paths
        for buffer, added in zip(self._buffers, (k, v), strict=True):
            place = buffer[:, :, :, first : first + paths * new]
            torch.unflatten(place, 3, (paths, new)).copy_(self._split_paths(added))
        self._steps += new

    def attend(self, q: Tensor) -> Tensor:
        """Return the attention output, in the shape of q: (series, paths, new, heads, head_dim).

        q is scaled. Every query attends to the whole context, and to the bars of its own path up to
        its own bar.
        """
        parts, paths = self._split
        new, keys = q.shape[2], self._buffers[0].shape[3]
        queries = torch.empty(
            parts, self.series, self.heads, paths, new, self.head_dim, dtype=self.dtype
        ).copy_(self._split_paths(q))
        at_a_time = max(1, MAX_SCORES // (queries[0].numel() // self.head_dim * keys))
        of_parts = (torch.split(x, at_a_time) for x in (queries, *self._buffers))
        mixed = [self._attend(*parts_) for parts_ in zip(*of_parts, strict=True)]
        whole = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
        # (parts, series, heads, paths, new, head_dim) -> shape of q
        return whole.permute(1, 0, 3, 4, 2, 5).flatten(1, 2)[:, : q.shape[1]]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attention output for q: (parts, series, heads, paths, new, head_dim).

        k and v are the buffers of these parts. Unused space is multiplied too, because a product
        would copy a buffer with gaps.
        """
        paths, new = q.shape[3:5]
        scores = torch.bmm(q.flatten(0, 2).flatten(1, 2), k.flatten(0, 2).transpose(1, 2))
        if room := k.shape[3] - self.bars:
            scores[..., self.bars :] += path_mask(paths, new, self._steps, room, self.dtype)
        return torch.bmm(torch.softmax(scores, dim=-1), v.flatten(0, 2)).view(q.shape)

    def _split_paths(self, x: Tensor) -> Tensor:
        """Split the paths into parts, padding the last one.

        (series, all paths, new, heads, head_dim) -> (parts, series, heads, paths, new, head_dim).
        """
        parts, paths = self._split
        if missing := parts * paths - x.shape[1]:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, missing))
        return torch.unflatten(x, 1, (parts, paths)).permute(1, 0, 4, 2, 3, 5)

    def _parts(self, room: Room) -> tuple[int, int]:
        """Return the number of parts, and the number of paths in each."""
        steps = max(1, room.steps)
        keys = max(self.bars, MIN_PATH_KEYS)
        scores = self.series * self.heads * steps * 2 * keys  # of one path, at most
        limit = max(1, min(keys // steps, MAX_SCORES // scores))
        parts = -(-room.paths // limit)
        return parts, -(-room.paths // parts)

    def _buffer(self, parts: int, path_bars: int) -> Tensor:
        """Return a buffer (parts, series, heads, bars + path_bars, head_dim)."""
        buffer = torch.empty(
            parts, self.series, self.heads, self.bars + path_bars, self.head_dim, dtype=self.dtype
        )
        buffer[:, :, :, self.bars :] = 0  # masked, but uninitialised memory could be NaN
        return buffer


def causal_attention(q: Tensor, k: Tensor, v: Tensor, out: Tensor, first: int = 0) -> None:
    """Causal attention within the contexts: each bar attends to itself and earlier bars.

    q: (series · heads, queries, head_dim), scaled, of the bars from `first` on.
    k, v: (series · heads, bars, head_dim). out: (series, queries, heads, head_dim).
    Queries are processed in blocks, which skips most of the masked products. torch's own kernel
    took 1.4 to 2 times as long.
    """
    batch, queries, _ = q.shape
    block = 64 if batch >= 16 else 128  # with few series, fewer and larger products are faster
    mask = causal_mask(block, q.dtype)
    for start in range(0, queries, block):
        end = min(start + block, queries)
        seen = k[:, : first + end]
        if (
            q.dtype == torch.bfloat16
        ):  # the product of bfloat16 would copy it transposed, which is slow
            seen = seen.contiguous()
        scores = torch.bmm(q[:, start:end], seen.transpose(1, 2))
        scores[..., first + start :] += mask[: end - start, : end - start]
        mixed = torch.bmm(torch.softmax(scores, dim=-1), v[:, : first + end])
        out[:, start:end] = torch.unflatten(mixed, 0, (out.shape[0], -1)).transpose(1, 2)


@lru_cache(maxsize=8)
def causal_mask(bars: int, dtype: torch.dtype) -> Tensor:
    """Return (bars, bars): 0 where a bar may attend, -inf elsewhere."""
    return torch.full((bars, bars), -torch.inf, dtype=dtype).triu(1)


@lru_cache(maxsize=32)
def path_mask(paths: int, new: int, steps: int, room: int, dtype: torch.dtype) -> Tensor:
    """Return a mask: 0 where a query may attend to a bar of its own path, -inf elsewhere.

    The shape is (paths · new, room). Keys are in the order in which they were appended: `new` steps
    of every path at a time, `steps` in total. The queries are the newest bars.
    """
    mask = torch.full((paths * new, room), -torch.inf, dtype=dtype)
    if steps:
        same_path = torch.eye(paths, dtype=torch.bool)
        before = torch.kron(same_path, torch.ones(new, new, dtype=torch.bool))
        newest = torch.kron(same_path, torch.ones(new, new, dtype=torch.bool).tril())
        seen = torch.cat([*[before] * (steps // new - 1), newest], dim=1)
        mask[:, : seen.shape[1]].masked_fill_(seen, 0)
    return mask
