"""Monotone rational-quadratic splines, and the two invertible layers made of them (Durkan et al., 2019, "Neural spline flows",
https://arxiv.org/abs/1906.04032).

Everything here is features first: an item is a column, a batch (features, rows), spline parameters (3 bins − 1, features · rows).
Sums over a spline's bins, the slow part of a spline with its bins last, then run along contiguous rows.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: What is added to a bin's size, itself between 0 and 1, and the largest log-slope at a knot. These bound how ill-conditioned one
#: spline can be, whatever the network says; a flow of random weights that came back 8.5 from where it had started had no wrong
#: inverse, but a Jacobian whose least singular value was below fp64 (docs/adr/0005-spline-round-trip.md).
LEAST, STEEPEST = 0.1, math.log(10.0)


def _table(raw: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """From (3 bins − 1, n) numbers: bin sizes (2, bins, n) along x and y, their running sums (2, bins, n), and log-slopes at all
    knots (bins + 1, n), zero at both ends. Sizes are in no particular unit: what counts is their share of the last sum."""
    sizes = raw[: 2 * bins].sigmoid().unflatten(0, (2, bins)) + LEAST
    ones = torch.ones(bins, bins, dtype=raw.dtype, device=raw.device).tril()
    return sizes, ones @ sizes, F.pad(raw[2 * bins :], (0, 0, 1, 1))


def _bin(place: Tensor, sums: Tensor, sizes: Tensor, logs: Tensor, axis: int) -> tuple[Tensor, ...]:
    """The bin along ``axis`` in which each ``place`` lies: where it begins (2, n), its sizes (2, n) and the slopes at its ends (2,
    n)."""
    index = (place >= sums[axis, :-1]).sum(0, keepdim=True)
    both = index.expand(2, 1, -1)
    size = sizes.gather(1, both)[:, 0]
    start = sums.gather(1, both)[:, 0] - size
    slopes = logs.gather(0, torch.cat([index, index + 1]))
    return start, size, (STEEPEST * (slopes / STEEPEST).tanh()).exp()


def _placed(v: Tensor, raw: Tensor, bound: float, axis: int) -> tuple[Tensor, ...]:
    """Where ``v`` (n,), held inside the bound, stands along ``axis``: that value, its share of its bin from 0 to 1, and, in the
    units of x and y, the bin's corner (2, n) measured from −bound, its sizes (2, n), and the slopes at its ends (2, n)."""
    sizes, sums, logs = _table(raw, (raw.shape[0] + 1) // 3)
    inside = v.clamp(-bound, bound)
    scale = (2 * bound) / sums[:, -1]
    place = (inside + bound) / scale[axis]
    start, size, slopes = _bin(place, sums, sizes, logs, axis)
    return inside, (place - start[axis]) / size[axis], start * scale, size * scale, slopes


def spline(x: Tensor, raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """y and log dy/dx of ``x`` (n,) under ``raw`` (3 bins − 1, n): with ξ the place in a bin from 0 to 1, s its mean slope and d₀,
    d₁ the slopes at its ends,

    y = y₀ + h [s ξ² + d₀ ξ(1−ξ)] / [s + (d₀ + d₁ − 2s) ξ(1−ξ)] (equation 4).

    Outside [−bound, bound] y is x: the slope at both ends is 1, so it is enough to carry the rest of x past the spline.

    >>> y, log_slope = spline(torch.tensor([-7.0, 0.5]), torch.zeros(11, 2), bound=3.0)  # zeros are the identity
    >>> [round(v, 5) for v in y.tolist() + log_slope.abs().tolist()]
    [-7.0, 0.5, 0.0, 0.0]
    """
    inside, xi, corner, (width, height), slopes = _placed(x, raw, bound, 0)
    s = height / width
    rest = xi * (1 - xi)
    below = s + (slopes[0] + slopes[1] - 2 * s) * rest
    y = corner[1] - bound + height * (s * xi * xi + slopes[0] * rest) / below
    rise = slopes[1] * xi * xi + 2 * s * rest + slopes[0] * (1 - xi) ** 2
    return y + (x - inside), (rise * (s / below) ** 2).log()


def spline_inverse(y: Tensor, raw: Tensor, bound: float) -> Tensor:
    """x of ``y`` (n,): ξ is the root of aξ² + bξ + c in [0, 1] (equations 6 to 8), by whichever form does not cancel: for b ≥ 0
    2c / (−b − √(b² − 4ac)), else (−b + √(b² − 4ac)) / 2a, where a = s − b is positive."""
    inside, eta, corner, (width, height), slopes = _placed(y, raw, bound, 1)
    s = height / width
    bend = eta * (slopes[0] + slopes[1] - 2 * s)
    a, b, c = s - slopes[0] + bend, slopes[0] - bend, -s * eta
    root = (b * b - 4 * a * c).clamp(min=0).sqrt()
    xi = torch.where(b >= 0, 2 * c / (-b - root), (root - b) / (2 * a))
    x: Tensor = (corner[0] - bound + xi * width) + (y - inside)
    return x


class Conditioner(nn.Module):
    """A multilayer perceptron from (inputs, rows) and a context (context, rows) to (outputs, rows), its hidden layers all of one
    width. ``degrees`` of the hidden units make it a MADE (Germain et al., 2015, https://arxiv.org/abs/1502.03509): a unit of degree
    m sees inputs 0..m−1 and hidden units of degree up to m, and outputs of feature i see hidden units of degree up to i.
    Its last layer begins at zero."""

    def __init__(self, inputs: int, outputs: int, hidden: int, layers: int, context: int, degrees: Tensor | None = None) -> None:
        super().__init__()
        if hidden < 1 or layers < 1:
            raise ValueError(f"expected at least one hidden layer of one unit; got layers={layers}, hidden={hidden}")
        widths = [inputs, *[hidden] * layers, outputs]
        if degrees is not None:
            feature = torch.arange(inputs)
            seen = [feature < degrees[:, None], *[degrees <= degrees[:, None]] * (layers - 1)]
            seen.append(degrees <= feature.repeat(outputs // inputs)[:, None])
            for i, mask in enumerate(seen):
                self.register_buffer(f"mask{i}", mask.to(torch.get_default_dtype()), persistent=False)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
            fan = a if degrees is None else seen[i].sum(1, keepdim=True).clamp(min=1)
            self.weights.append((torch.rand(b, a) * 2 - 1) / fan**0.5 * (i < layers))
            self.biases.append((torch.rand(b) * 2 - 1) / a**0.5 * (i < layers))
        self.context = nn.Parameter((torch.rand(hidden, context) * 2 - 1) / context**0.5) if context else None

    def weight(self, i: int) -> Tensor:
        weight: Tensor = self.weights[i]
        return weight * getattr(self, f"mask{i}") if hasattr(self, f"mask{i}") else weight

    def bias(self, i: int) -> Tensor:
        """As a column; kept flat, as what has no weight decay is."""
        bias: Tensor = self.biases[i]
        return bias[:, None]

    def told(self, context: Tensor | None) -> Tensor:
        """What the first hidden layer adds: its bias and its reading of the context, (hidden, rows) or (hidden, 1)."""
        bias = self.bias(0)
        return bias if self.context is None or context is None else bias + self.context @ context

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        out = torch.addmm(self.told(context), self.weight(0), x)
        for i in range(1, len(self.weights)):
            out = torch.addmm(self.bias(i), self.weight(i), F.silu(out))
        return out


class Coupling(nn.Module):
    """The first half of the features passes unchanged and says, with the context, by which splines the second half goes."""

    def __init__(self, features: int, bins: int, bound: float, hidden: int, layers: int, context: int) -> None:
        super().__init__()
        self.kept, self.bound = features // 2, bound
        self.network = Conditioner(self.kept, (features - self.kept) * (3 * bins - 1), hidden, layers, context)

    def _parameters_of(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        kept, moved = x[: self.kept], x[self.kept :]
        return kept, moved, self.network(kept, context).reshape(-1, moved.numel())

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y (features, rows) and log |det dy/dx| (rows,) of x (features, rows)."""
        kept, moved, raw = self._parameters_of(x, context)
        y, log_slope = spline(moved.reshape(-1), raw, self.bound)
        return torch.cat([kept, y.view_as(moved)]), log_slope.view_as(moved).sum(0)

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """x of y, as fast as :meth:`forward`."""
        kept, moved, raw = self._parameters_of(y, context)
        return torch.cat([kept, spline_inverse(moved.reshape(-1), raw, self.bound).view_as(moved)])


class MadeLayer(nn.Module):
    """Feature i goes by a spline that features 0..i−1 and the context give.

    All splines come of one pass of a MADE, so :meth:`forward` is parallel; its inverse is not, as feature i must be known before
    spline i + 1 is. But what is known stays known: hidden units are sorted by degree, those of degree i are computed once, when
    feature i − 1 has been found, and then read. All D steps together cost one pass of the network, where D passes are usual.
    """

    def __init__(self, features: int, bins: int, bound: float, hidden: int, layers: int, context: int) -> None:
        super().__init__()
        self.features, self.bound = features, bound
        lowest = 0 if context or features == 1 else 1  # units of degree 0 see the context alone
        degrees = [lowest + k * (features - lowest) // max(hidden, 1) for k in range(hidden)]
        self.ends = [bisect_right(degrees, i) for i in range(features)]
        self.network = Conditioner(features, features * (3 * bins - 1), hidden, layers, context, torch.tensor(degrees))

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y (features, rows) and log |det dy/dx| (rows,) of x (features, rows)."""
        y, log_slope = spline(x.reshape(-1), self.network(x, context).reshape(-1, x.numel()), self.bound)
        return y.view_as(x), log_slope.view_as(x).sum(0)

    @torch.no_grad()
    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """x of y, feature by feature."""
        weights, rows = list(self.network.weights), y.shape[1]
        biases = [self.network.bias(i) for i in range(len(weights))]
        last, offset = (t.unflatten(0, (-1, self.features)).transpose(0, 1).contiguous() for t in (weights[-1], biases[-1]))
        hidden = [y.new_empty(len(w), rows) for w in weights[:-1]]
        told = self.network.told(context)
        x, begin = torch.empty_like(y), 0
        for i, end in enumerate(self.ends):
            if end > begin:
                unit = slice(begin, end)
                torch.addmm(told[unit], weights[0][unit, :i], x[:i], out=hidden[0][unit])
                F.silu(hidden[0][unit], inplace=True)
                for j in range(1, len(hidden)):
                    torch.addmm(biases[j][unit], weights[j][unit, :end], hidden[j - 1][:end], out=hidden[j][unit])
                    F.silu(hidden[j][unit], inplace=True)
                begin = end
            x[i] = spline_inverse(y[i], torch.addmm(offset[i], last[i, :, :end], hidden[-1][:end]), self.bound)
        return x
