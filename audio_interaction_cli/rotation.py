"""The rotation of int8 layers, which spreads every channel over all. Knows matrices, nothing of layers."""

import math
from functools import cache

import torch


def rotate(x: torch.Tensor, *, back: bool = False) -> torch.Tensor:
    """x [rows, channels] times an orthogonal matrix, the same for all of one width, or times its inverse.

    The matrix is the Kronecker product of two, near a square of channels each, which mix all channels in two steps.
    """
    width = x.shape[-1]
    inner = _near_channels(width)
    near, far = _hadamard(inner, x.dtype), _cosines(width // inner, x.dtype)
    mixed = (far.T if back else far) @ x.view(len(x), -1, inner) @ near  # which is its own inverse
    return mixed.flatten(-2)


def _near_channels(width: int) -> int:
    """Of a width, the power of two near its root that divides it."""
    return math.gcd(width, 2 ** round(math.log2(width) / 2))


@cache
def mixing(width: int) -> torch.Tensor:
    """What our kernels rotate by: beyond a Hadamard matrix of ones, which is not normalised, all that is left."""
    near = _near_channels(width)
    return _cosines(width // near, torch.float32) / math.sqrt(near)


@cache
def _hadamard(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Sylvester's, normalised: symmetric and orthogonal, all entries of one magnitude. `size` is a power of two."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return (matrix / math.sqrt(size)).to(dtype)


@cache
def _cosines(size: int, dtype: torch.dtype) -> torch.Tensor:
    """The discrete cosine transform, orthogonal, for sizes that are no power of two."""
    n = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (n[:, None] * (n + 0.5))) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(dtype)
