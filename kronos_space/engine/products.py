"""Products with a constant weight, in fewer passes over memory than `F.linear`, or in 8 bits."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

ONEDNN: Any = torch.ops.mkldnn
SMALLEST = 1e-30  # the scale of a row of zeros, so that nothing is divided by 0


class Product(Protocol):
    """x @ weight.T + bias.

    `ready` prepares x. The other methods take its result, which several products can share.
    """

    def ready(self, x: Tensor) -> Any: ...
    def __call__(self, x: Any) -> Tensor: ...
    def silu(self, x: Any) -> Tensor: ...
    def times(self, x: Any, factor: Tensor) -> Tensor: ...
    def plus(self, x: Any, rest: Tensor) -> Tensor: ...


class FloatProduct:
    """x @ weight.T + bias.

    If torch has oneDNN, the weight is packed for it once. float32 is then a sixth faster than with
    `F.linear`, bfloat16 a twentieth. Element-wise operations after a product are applied to its
    result while it is still in the processor's registers.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.weight = weight.to(dtype)
        self.bias = None if bias is None else bias.to(dtype)
        self.packed = has_onednn(dtype)
        if self.packed:
            self.weight = ONEDNN._reorder_linear_weight(self.weight.contiguous())

    def ready(self, x: Tensor) -> Tensor:
        """Return x: (rows, in) in the product's type."""
        return x.to(self.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product for x: (rows, in), shape (rows, out)."""
        if not self.packed:
            return F.linear(x, self.weight, self.bias)
        out: Tensor = ONEDNN._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return out

    def silu(self, x: Tensor) -> Tensor:
        """Return silu of the product for x: (rows, in), shape (rows, out)."""
        if not self.packed:
            return F.silu(F.linear(x, self.weight, self.bias), inplace=True)
        out: Tensor = ONEDNN._linear_pointwise(x, self.weight, self.bias, "swish", [], "")
        return out

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return the product for x, multiplied by `factor` element by element.

        x: (rows, in). `factor` and the result: (rows, out).
        """
        if not self.packed:
            return F.linear(x, self.weight, self.bias).mul_(factor)
        out: Tensor = ONEDNN._linear_pointwise.binary(x, factor, self.weight, self.bias, "mul")
        return out

    def plus(self, x: Tensor, rest: Tensor) -> Tensor:
        """Return the product for x: (rows, in), plus `rest`: (rows, out), float32."""
        if self.packed and rest.dtype == x.dtype:
            out: Tensor = ONEDNN._linear_pointwise.binary(x, rest, self.weight, self.bias, "add")
            return out
        return rest.add_(self(x))


class EightBitProduct:
    """An approximation of x @ weight.T + bias with 8-bit integers.

    It takes a third of the time on CPUs with VNNI. Each row of the weight and each row of x has
    its own scale, which makes its largest element 127. Integers are summed exactly, so the result
    for a row does not depend on the other rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.scale = weight.abs().amax(dim=1).clamp_min(SMALLEST) / 127
        self.weight = (weight / self.scale.unsqueeze(1)).round().to(torch.int8).t()
        self.bias = bias

    def ready(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the integers (rows, in) and the scales (rows, 1) of x: (rows, in), float32."""
        scale = x.abs().amax(dim=1, keepdim=True).clamp_min_(SMALLEST).div_(127)
        return (x / scale).round_().to(torch.int8), scale

    def __call__(self, x: tuple[Tensor, Tensor]) -> Tensor:
        """Return the product for a result of `ready`, shape (rows, out), float32."""
        integers, scale = x
        out = torch._int_mm(integers, self.weight).float().mul_(scale).mul_(self.scale)
        return out if self.bias is None else out.add_(self.bias)

    def silu(self, x: tuple[Tensor, Tensor]) -> Tensor:
        """Return silu of the product, shape (rows, out)."""
        return F.silu(self(x), inplace=True)

    def times(self, x: tuple[Tensor, Tensor], factor: Tensor) -> Tensor:
        """Return the product times `factor`: (rows, out), element by element."""
        return self(x).mul_(factor)

    def plus(self, x: tuple[Tensor, Tensor], rest: Tensor) -> Tensor:
        """Return the product plus `rest`: (rows, out)."""
        return rest.add_(self(x))


def product(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Product:
    """Return the product in this type."""
    if dtype == torch.int8:
        return EightBitProduct(weight, bias)
    return FloatProduct(weight, bias, dtype)


def not_integer(dtype: torch.dtype) -> torch.dtype:
    """Return `dtype`, or float32 for int8.

    It is the type for operations that are not computed in int8, even where products are.
    """
    return torch.float32 if dtype == torch.int8 else dtype


def has_onednn(dtype: torch.dtype) -> bool:
    """Return whether oneDNN supports this type."""
    if not torch._C._has_mkldnn:
        return False
    return dtype == torch.float32 or bool(ONEDNN._is_mkldnn_bf16_supported())
