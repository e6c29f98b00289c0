"""Linear forward models y = A x: how a clean item becomes a measurement, before noise.

``vjp`` is the exact adjoint Aᵀ, so the normal equations that data consistency solves are those of ``apply``. Items and
measurements carry rows first: (rows, *domain) and (rows, *range).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from headwater.errors import HeadwaterError

Boundary = Literal["circular", "reflect"]


class Operator(ABC):
    """A linear map from ``domain`` to ``range``, both (channels, *size)."""

    def __init__(self, domain: tuple[int, ...], range: tuple[int, ...] | None = None) -> None:
        self.domain = tuple(domain)
        self.range = self.domain if range is None else tuple(range)

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def vjp(self, y: Tensor) -> Tensor:
        """Aᵀ y."""

    def solve(self, right: Tensor, weight: Tensor) -> Tensor:
        """The v with (AᵀA + weight) v = right; ``weight`` > 0 has one number a row.

        By conjugate gradients (Hestenes and Stiefel, 1952, https://doi.org/10.6028/jres.049.044), at most 300 iterations; a
        row that has converged stays as it is, so no answer depends on the other rows. Subclasses with a closed form override
        it.
        """
        w = _column(weight, right)
        v, gap = torch.zeros_like(right), right
        way, square = gap, dot(gap, gap)
        floor = (10 * torch.finfo(right.dtype).eps) ** 2 * square
        for _ in range(300):
            live = square > floor
            if not bool(live.any()):
                break
            curved = self.vjp(self.apply(way)) + w * way
            step = torch.where(live, square / torch.where(live, dot(way, curved), 1.0), 0.0)
            v, gap = v + step * way, gap - step * curved
            new = dot(gap, gap)
            way = gap + torch.where(live, new / torch.where(live, square, 1.0), 0.0) * way
            square = new
        return v


class Identity(Operator):
    """y = x: denoising."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def vjp(self, y: Tensor) -> Tensor:
        return y

    def solve(self, right: Tensor, weight: Tensor) -> Tensor:
        return right / (1 + _column(weight, right))


class Mask(Operator):
    """y = m x, elementwise with m in {0, 1}: inpainting. ``mask`` is bool and broadcasts to ``domain``; unseen cells of y are
    0."""

    def __init__(self, domain: tuple[int, ...], mask: Tensor) -> None:
        super().__init__(domain)
        try:
            self.mask = mask.to(torch.bool).expand(self.domain)
        except RuntimeError:
            raise HeadwaterError(f"mask: expected a shape that broadcasts to {self.domain}; got {tuple(mask.shape)}") from None

    def apply(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x.device)

    def vjp(self, y: Tensor) -> Tensor:
        return y * self.mask.to(y.device)

    def solve(self, right: Tensor, weight: Tensor) -> Tensor:
        return right / (self.mask.to(right) + _column(weight, right))


class Blur(Operator):
    """y = k * x: each channel convolved with ``kernel``, of odd length along each axis of ``size``.

    The boundary is ``circular`` (then AᵀA is diagonal in Fourier space and ``solve`` is exact) or ``reflect``, which repeats the
    edge cell (d c b a | a b c d), as scipy.ndimage names it.
    """

    def __init__(self, domain: tuple[int, ...], kernel: Tensor, boundary: Boundary = "circular") -> None:
        super().__init__(domain)
        size = self.domain[1:]
        if kernel.ndim != len(size) or any(k % 2 == 0 or k > n for k, n in zip(kernel.shape, size, strict=False)):
            raise HeadwaterError(
                f"kernel: expected odd lengths, none above the image's, along {len(size)} axes of {size}; got {tuple(kernel.shape)}"
            )
        self.kernel, self.boundary = kernel, boundary
        self._axes = tuple(range(2, 2 + len(size)))
        self._wide = size if boundary == "circular" else tuple(n + k - 1 for n, k in zip(size, kernel.shape, strict=True))
        self._index = [_reflected(n, k // 2) for n, k in zip(size, kernel.shape, strict=True)]

    def _transfer(self, like: Tensor) -> Tensor:
        """The kernel's spectrum on the padded size, its centre at the origin."""
        wide = torch.zeros(self._wide, dtype=like.dtype, device=like.device)
        wide[tuple(slice(k) for k in self.kernel.shape)] = self.kernel.to(like)
        wide = wide.roll([-(k // 2) for k in self.kernel.shape], tuple(range(wide.ndim)))
        spectrum: Tensor = torch.fft.rfftn(wide)
        return spectrum

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        """Row by row, because a batched FFT rounds a row by its place in the batch. ``transfer``: for all rows or one a row."""
        transfer = transfer.expand(x.shape[0], x.shape[1], *transfer.shape[-len(self._wide) :])
        axes = tuple(a - 1 for a in self._axes)
        rows = [
            torch.fft.irfftn(torch.fft.rfftn(r, dim=axes) * t, s=self._wide, dim=axes) for r, t in zip(x, transfer, strict=True)
        ]
        return torch.stack(rows)

    def apply(self, x: Tensor) -> Tensor:
        if self.boundary == "circular":
            return self._filter(x, self._transfer(x))
        for axis, index in zip(self._axes, self._index, strict=True):
            x = x.index_select(axis, index.to(x.device))
        return self._crop(self._filter(x, self._transfer(x)))

    def vjp(self, y: Tensor) -> Tensor:
        if self.boundary == "circular":
            return self._filter(y, self._transfer(y).conj())
        wide = y.new_zeros(*y.shape[:2], *self._wide)
        self._crop(wide).copy_(y)
        wide = self._filter(wide, self._transfer(y).conj())
        for axis, index in zip(self._axes, self._index, strict=True):
            shape = list(wide.shape)
            shape[axis] = self.domain[axis - 1]
            wide = wide.new_zeros(shape).index_add(axis, index.to(y.device), wide)
        return wide

    def _crop(self, wide: Tensor) -> Tensor:
        """A view of the cells under the image."""
        for axis, (n, k) in zip(self._axes, zip(self.domain[1:], self.kernel.shape, strict=True), strict=True):
            wide = wide.narrow(axis, k // 2, n)
        return wide

    def solve(self, right: Tensor, weight: Tensor) -> Tensor:
        if self.boundary == "reflect":
            return super().solve(right, weight)
        return self._filter(right, 1 / (self._transfer(right).abs().square() + _column(weight, right)))


def _reflected(length: int, pad: int) -> Tensor:
    """Which cell stands at each place of a line padded by ``pad`` <= ``length`` on both sides."""
    place = torch.arange(-pad, length + pad)
    return torch.where(place < 0, -1 - place, torch.where(place >= length, 2 * length - 1 - place, place))


def _column(weight: Tensor, like: Tensor) -> Tensor:
    """One number a row, shaped to multiply (rows, ...)."""
    return weight.to(like).reshape(-1, *[1] * (like.ndim - 1))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row, summed in an order that does not depend on how many rows there are."""
    return _column(torch.stack([(u * v).sum() for u, v in zip(a, b, strict=True)]), a)
