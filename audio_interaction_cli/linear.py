"""Linear layers in the form in which a processor multiplies them fastest. Knows matrices, nothing of models.

On a CPU `prepare_layer` packs the weights into the order in which products read them: those of our own `kernels` where
these fit, oneDNN's elsewhere. Int8 layers take half the memory of bfloat16 and less time still. All that rests on
unpublished names of torch is here; where they are missing, layers stay as they are.

Int8: a scale for each output channel of the weights and for each row of the input. A row with a few channels a hundred
times the others would leave 7 bits for the others to share, so inputs and weights are rotated by one orthogonal
matrix first, which spreads every channel over many and leaves the products as they were.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import nn

from audio_interaction_cli.abilities import onednn_multiplies_int8, own_form, packs
from audio_interaction_cli.rotation import mixing, rotate

if TYPE_CHECKING:  # their compiler is imported where it is needed: it takes a tenth of a second
    from audio_interaction_cli.kernels import Matrix

MANY_ROWS = 64  # a hint only: what is packed for one number of rows serves all
WIDE = 4_096  # channels, beyond which a rotation takes so long that its rounding to bfloat16 is the lesser evil
LARGEST_INT8 = 127
ZERO_POINT = 128  # the products take unsigned inputs
ROWS_AT_ONCE = 2_048  # of weights, when they are rotated in float32
_TINY = torch.tensor(1e-30)  # a scale for rows of zeros


class PackedLinear(nn.Module):
    """A linear layer whose weights only its products can read. x [..., in] -> [..., out], in the dtype of x."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight_bytes = linear.weight.nbytes
        self.bias = linear.bias
        self._dtype = linear.weight.dtype
        weight = linear.weight.detach()
        self._panels = _panels(weight)
        self._packed, self._weight = None, None
        if self._panels is None and packs(self._dtype, weight.device):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, MANY_ROWS)
        elif self._panels is None:
            self._weight = weight

    @cached_property
    def matrix(self) -> "Matrix | None":
        """For our own kernels; the bias is there only when all is loaded."""
        return None if self._panels is None else _matrix(self, self._dtype, self._panels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.matrix:
            return multiply(x, self)[0]
        if self._weight is not None:  # which no product reads as it is
            bias = None if self.bias is None else self.bias.float()
            return F.linear(x.float(), self._weight.float(), bias).to(x.dtype)
        bias = None if self.bias is None else self.bias.to(self._dtype)
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self._dtype), self._packed, bias, "none", [], "")
        return y.to(x.dtype)

    def bare(self, x: torch.Tensor) -> Callable[[], object]:
        """The product alone, of inputs that have been rounded before."""
        rounded = x.to(self._dtype)
        return _again(x, self.matrix) if self.matrix else lambda: self(rounded)


class Int8Linear(nn.Module):
    """x [..., in] -> float32 [..., out], by int8 products; `pack` it before use.

    Its parameters are those of a quantized checkpoint: `weight` int8 [out, in], rotated, `weight_scale` float32 [out],
    and `bias` if the layer has one.
    """

    weight: torch.Tensor
    weight_scale: torch.Tensor

    def __init__(self, in_features: int, out_features: int, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, dtype=torch.int8), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(out_features), requires_grad=False)
        self.bias = bias
        self.weight_bytes = 0
        self._panels: torch.Tensor | None = None  # for our own kernels
        self._packed: torch.Tensor | None = None  # for oneDNN
        self._plain: torch.Tensor | None = None  # for neither

    @classmethod
    def like(cls, linear: nn.Linear) -> Self:
        """A layer of the same shape, on the same device, with no numbers yet."""
        with linear.weight.device:
            return cls(linear.in_features, linear.out_features, linear.bias)

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """The layer quantized."""
        layer = cls.like(linear)
        parts = zip(
            *(torch.split(part, ROWS_AT_ONCE) for part in (linear.weight, layer.weight, layer.weight_scale)),
            strict=True,
        )
        for weight, rounded, scale in parts:
            rotated = rotate(weight.detach().float())
            scale.copy_(rotated.abs().amax(1).clamp_min_(torch.finfo(torch.float32).tiny) / LARGEST_INT8)
            rounded.copy_((rotated / scale[:, None]).round_())
        return layer

    def rows(self, ids: list[int]) -> torch.Tensor:
        """Rows of the weights as they were but for rounding, float32 [n, in]; not after `pack`."""
        return rotate(self.weight[ids] * self.weight_scale[ids, None], back=True)

    def pack(self) -> Self:
        """Bring the weights into the order of the products, which nothing else can read."""
        if not self.weight_bytes:
            self.weight_bytes = self.weight.nbytes
            weight = self.weight.detach()
            self._panels = _panels(weight, mixing(self.in_features))
            if self._panels is None and onednn_multiplies_int8(weight.device):
                self._packed = torch.ops.onednn.qlinear_prepack(weight, None)
                self._zeros = torch.zeros(self.out_features, dtype=torch.int64)
            elif self._panels is None:
                self._plain = weight
            del self.weight
        return self

    @cached_property
    def matrix(self) -> "Matrix | None":
        """For our own kernels; the bias is there only when all is loaded."""
        if self._panels is None:
            return None
        return _matrix(self, torch.int8, self._panels, self.weight_scale.detach(), mixing(self.in_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (y,) = multiply(x, self)
        return y

    def bare(self, x: torch.Tensor) -> Callable[[], object]:
        """The product alone, of inputs that have been rounded before."""
        if self.matrix:
            return _again(x, self.matrix)
        rounded, _ = quantized(x)
        return lambda: self.bare_product(rounded)

    def product(self, rounded: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Of what `quantized` gives: float32 [rows, out]."""
        y = self.bare_product(rounded).mul_(scale)
        return y if self.bias is None else y.add_(self.bias)

    def bare_product(self, rounded: torch.Tensor) -> torch.Tensor:
        """The product alone, without the scale of its rows: float32 [rows, out]."""
        if self._plain is not None:
            return F.linear(rounded.float() - ZERO_POINT, self._plain.float()) * self.weight_scale
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, ZERO_POINT, self._packed, self.weight_scale, self._zeros, None, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip
        return y


def _panels(weight: torch.Tensor, *mixing: torch.Tensor) -> torch.Tensor | None:
    """Weights [out, in] as our own kernels read them, where these fit."""
    form = own_form(weight.dtype, weight.device)
    if form is None:
        return None
    from audio_interaction_cli import kernels

    return kernels.panels(form, weight) if kernels.fits(*weight.T.shape, *mixing) else None


def _matrix(
    layer: PackedLinear | Int8Linear, weights: torch.dtype, panels: torch.Tensor, *more: torch.Tensor
) -> "Matrix":
    from audio_interaction_cli.kernels import Matrix

    form = own_form(weights, panels.device)
    assert form
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().float()
    return Matrix(form, panels, bias, *more)


def _again(x: torch.Tensor, matrix: "Matrix") -> Callable[[], object]:
    from audio_interaction_cli.kernels import Products

    products = Products(x.float(), [matrix])
    products.run()
    return products.again()


Linear = nn.Linear | PackedLinear | Int8Linear


def quantized(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., in] as rows: rotated and rounded, uint8 [rows, in] around 128, and their scales, float32 [rows, 1]."""
    wide = x.shape[-1] > WIDE and packs(torch.bfloat16, x.device)
    rotated = rotate(x.reshape(-1, x.shape[-1]).to(torch.bfloat16 if wide else torch.float32)).float()
    scale = torch.add(_TINY, rotated.abs().amax(-1, keepdim=True), alpha=1 / LARGEST_INT8)
    signed = rotated.div_(scale).round_().to(torch.int8)
    return signed.bitwise_xor_(-ZERO_POINT).view(torch.uint8), scale


def multiply(x: torch.Tensor, *layers: nn.Module) -> list[torch.Tensor]:
    """What each layer makes of x; of layers of one kind, which share what can be done once."""
    matrices = [m for m in (getattr(layer, "matrix", None) for layer in layers) if m]
    flat = x.reshape(-1, x.shape[-1])
    if len(matrices) == len(layers):
        from audio_interaction_cli.kernels import Products

        products = Products(flat.float().contiguous(), matrices).run()
        dtype = torch.float32 if isinstance(layers[0], Int8Linear) else x.dtype
        return [y.view(*x.shape[:-1], -1).to(dtype) for y in products]
    if isinstance(layers[0], Int8Linear):
        once = quantized(flat)
        return [layer.product(*once).view(*x.shape[:-1], -1) for layer in layers]  # type: ignore[operator]
    return [layer(x) for layer in layers]


def prepare_layer(module: nn.Module, path: str, *, int8: bool = False) -> None:
    """Give the linear layer at `path`, whose weights are there, its fastest form; nothing for other layers.

    With `int8`, which needs `multiplies_int8`, it is quantized first.
    """
    layer = module.get_submodule(path)
    if isinstance(layer, nn.Linear) and int8:
        layer = Int8Linear.of(layer)
    if isinstance(layer, Int8Linear):
        module.set_submodule(path, layer.pack())
    elif isinstance(layer, nn.Linear):
        kind = layer.weight.dtype, layer.weight.device
        if packs(*kind) or own_form(*kind):
            module.set_submodule(path, PackedLinear(layer))


def keep_exact(module: nn.Module) -> None:
    """Norms, biases and convolutions in float32, where linear layers give that: nothing is rounded between them."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.LayerNorm | nn.RMSNorm | nn.Conv1d):
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.ndim == 1 or isinstance(part, nn.Conv1d):
                    setattr(part, name, nn.Parameter(parameter.float(), requires_grad=False))


def expect_int8(module: nn.Module) -> None:
    """Replace all linear layers inside by int8 ones without numbers, to be filled from a quantized checkpoint."""
    for path, layer in list(linear_layers(module)):
        if isinstance(layer, nn.Linear):
            module.set_submodule(path, Int8Linear.like(layer))


def linear_layers(module: nn.Module) -> Iterator[tuple[str, Linear]]:
    """All linear layers inside, of whatever kind, with their paths."""
    return ((p, m) for p, m in module.named_modules() if isinstance(m, nn.Linear | PackedLinear | Int8Linear))


def weight_bytes(module: nn.Module) -> int:
    """What all weights inside take in memory, packed ones included."""
    packed = sum(layer.weight_bytes for _, layer in linear_layers(module) if not isinstance(layer, nn.Linear))
    return packed + sum(parameter.nbytes for parameter in module.parameters())


def head_rows(layer: nn.Linear | Int8Linear, ids: list[int]) -> torch.Tensor:
    """Rows of a linear layer's weights that is not packed yet, float32 [n, in]."""
    if isinstance(layer, Int8Linear):
        return layer.rows(ids)
    weight: torch.Tensor = layer.weight
    return weight[ids].float()
