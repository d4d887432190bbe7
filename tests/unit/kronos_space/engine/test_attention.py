"""Attention over a cache equals separate attention for each path, however the work is split."""

import pytest
import torch
import torch.nn.functional as F

from kronos_space.engine import kv_cache
from kronos_space.engine.kv_cache import KVCache, Room, causal_attention
from kronos_space.engine.products import EightBitProduct, FloatProduct

SERIES, HEADS, DIM = 2, 3, 8


def of_one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attend one path. q: (new, heads, dim), the newest of k, v: (bars, heads, dim) -> as q."""
    new, bars = len(q), len(k)
    seen = torch.ones(new, bars, dtype=torch.bool).tril(bars - new)
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1.0).transpose(0, 1)


@pytest.mark.parametrize("own_keys", [1, 7, 256])  # each path alone, in parts, all together
@pytest.mark.parametrize(("bars", "paths", "steps", "new"), [
    (5, 1, 1, 1), (5, 7, 3, 1), (20, 7, 3, 3), (1, 11, 4, 2), (40, 20, 4, 1),
])  # fmt: skip
def test_each_path_sees_the_context_and_its_own_bars(
    bars: int, paths: int, steps: int, new: int, own_keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "MIN_PATH_KEYS", own_keys)
    random = torch.Generator().manual_seed(0)
    k, v = torch.randn(2, SERIES, bars, HEADS, DIM, generator=random)
    cache = KVCache((SERIES, bars, HEADS, DIM), Room(paths, steps), torch.float32)
    cache.store(k, v)
    for turn in range(2):  # the second run reuses the buffers of the first
        some = paths - turn if paths > 1 else 1
        own_bars = torch.randn(3, SERIES, some, steps, HEADS, DIM, generator=random)
        cache.reserve(Room(some, steps))
        for at in range(0, steps, new):
            q, own_k, own_v = own_bars[:, :, :, at : at + new]
            cache.append(own_k, own_v)

            mixed = cache.attend(q)

            for s in range(SERIES):
                for path in range(some):
                    keys, values = (
                        torch.cat([shared[s], its[s, path, : at + new]])
                        for shared, its in ((k, own_bars[1]), (v, own_bars[2]))
                    )
                    expected = of_one(q[s, path], keys, values)
                    torch.testing.assert_close(mixed[s, path], expected, atol=1e-5, rtol=1e-5)
        cache.release()


@pytest.mark.parametrize("bars", [1, 64, 130])
@pytest.mark.parametrize("series", [1, 8])
def test_a_context_is_causal(series: int, bars: int) -> None:
    q, k, v = torch.randn(3, series * HEADS, bars, DIM)
    out = torch.empty(series, bars, HEADS, DIM)

    causal_attention(q, k, v, out)

    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    expected = expected.unflatten(0, (series, HEADS)).transpose(1, 2)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cut", [1, 64, 70, 129])
def test_the_later_bars_of_a_context_attend_to_the_earlier_ones(cut: int) -> None:
    q, k, v = torch.randn(3, SERIES * HEADS, 130, DIM)
    out, later = torch.empty(SERIES, 130, HEADS, DIM), torch.empty(SERIES, 130 - cut, HEADS, DIM)

    causal_attention(q, k, v, out)
    causal_attention(q[:, cut:], k, v, later, first=cut)

    torch.testing.assert_close(later, out[:, cut:], atol=1e-5, rtol=1e-5)


def test_a_context_can_be_stored_in_parts() -> None:
    k, v = torch.randn(2, SERIES, 9, HEADS, DIM)
    whole, parts = (KVCache((SERIES, 9, HEADS, DIM), Room(2, 3), torch.float32) for _ in range(2))

    whole.store(k, v)
    parts.store(k[:, 4:], v[:, 4:], first=4)
    parts.store(k[:, :4], v[:, :4])

    assert torch.equal(parts.keys, whole.keys)
    assert torch.equal(parts.values, whole.values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("onednn", [True, False])
def test_a_product_is_the_same_with_and_without_onednn(
    onednn: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not onednn:
        monkeypatch.setattr("kronos_space.engine.products.has_onednn", lambda _: False)
    x, factor, rest = torch.randn(5, 16).to(dtype), torch.randn(5, 8).to(dtype), torch.randn(5, 8)
    weight, bias = torch.randn(8, 16), torch.randn(8)
    product = FloatProduct(weight, bias, dtype)
    plain = F.linear(x.float(), weight.to(dtype).float(), bias.to(dtype).float())

    results = {
        "plain": (product(x), plain),
        "silu": (product.silu(x), F.silu(plain)),
        "times": (product.times(x, factor), plain * factor.float()),
        "plus": (product.plus(x, rest.clone()), plain + rest),
    }

    near = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
    for result, expected in results.values():
        torch.testing.assert_close(result.float(), expected, **near)
    assert results["plus"][0].dtype == torch.float32


def test_a_product_in_8_bits_is_within_its_rounding_of_the_exact_one() -> None:
    x, factor, rest = torch.randn(50, 64), torch.randn(50, 32), torch.randn(50, 32)
    weight, bias = torch.randn(32, 64), torch.randn(32)
    product, exact = EightBitProduct(weight, bias), F.linear(x, weight, bias)

    rows = product.ready(x)

    # half a step of each factor, all in the worst direction
    step_x, step_weight = x.abs().amax(1, keepdim=True) / 254, weight.abs().amax(1) / 254
    bound = step_x * weight.abs().sum(1) + step_weight * x.abs().sum(1, keepdim=True)
    bound += 64 * step_x * step_weight + 1e-4
    assert ((product(rows) - exact).abs() <= bound).all()
    torch.testing.assert_close(product.silu(rows), F.silu(product(rows)))
    torch.testing.assert_close(product.times(rows, factor), product(rows) * factor)
    torch.testing.assert_close(product.plus(rows, rest.clone()), product(rows) + rest)


def test_a_row_in_8_bits_does_not_depend_on_the_other_rows() -> None:
    product = EightBitProduct(torch.randn(32, 64), torch.randn(32))
    x = torch.randn(50, 64) * torch.logspace(-6, 6, 50).unsqueeze(1)
    x[7] = 0

    together = product(product.ready(x))

    alone = torch.cat([product(product.ready(row)) for row in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    torch.testing.assert_close(together[7], product.bias)
