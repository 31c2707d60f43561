"""Linear layers in the form in which a processor multiplies them fastest. Knows matrices, nothing of models.

On a CPU `prepare_layer` packs the weights into the order in which oneDNN's products read them: the same numbers come
out, a third sooner. Int8 layers take half the memory of bfloat16 and less time still, by our own `kernels` where these
fit and by oneDNN elsewhere. All that rests on unpublished names of torch is here; where they are missing, layers stay
as they are.

Int8: a scale for each output channel of the weights and for each row of the input. A row with a few channels a hundred
times the others would leave 7 bits for the others to share, so inputs and weights are rotated by one orthogonal
matrix first, which spreads every channel over many and leaves the products as they were.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from audio_interaction_cli.rotation import mixing, rotate

if TYPE_CHECKING:  # their compiler is imported where it is needed: it takes a tenth of a second
    from audio_interaction_cli.kernels import Matrix

MANY_ROWS = 64  # a hint only: what is packed for one number of rows serves all
WIDE = 4_096  # channels, beyond which a rotation takes so long that its rounding to bfloat16 is the lesser evil
LARGEST_INT8 = 127
ZERO_POINT = 128  # the products take unsigned inputs
ROWS_AT_ONCE = 2_048  # of weights, when they are rotated in float32
_TINY = torch.tensor(1e-30)  # a scale for rows of zeros


def packs(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this torch on this machine can pack layers of that dtype."""
    if device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


def multiplies_int8(device: torch.device) -> bool:
    """Whether int8 products are exact and fast there: on x86 with VNNI, without which sums of 8 bits overflow."""
    if device.type != "cpu" or not hasattr(torch.ops.onednn, "qlinear_prepack"):
        return False
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_vnni") or able.get("avx_vnni"))


def gives_float32(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether packed layers of that dtype are best given float32, and give their sums without rounding them."""
    if dtype is not torch.bfloat16 or not packs(dtype, device):
        return False
    from audio_interaction_cli.machine import BFLOAT16, runs

    return runs(BFLOAT16)


class PackedLinear(nn.Module):
    """A linear layer whose weights only its products can read. x [..., in] -> [..., out], in the dtype of x."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight_bytes = linear.weight.nbytes
        self.bias = linear.bias
        self._dtype = linear.weight.dtype
        self._panels: torch.Tensor | None = None  # where our own kernels multiply
        if gives_float32(self._dtype, linear.weight.device):
            from audio_interaction_cli import kernels
            from audio_interaction_cli.machine import BFLOAT16

            if kernels.fits(BFLOAT16, self.in_features, self.out_features):
                self._panels = kernels.panels(linear.weight.detach())
        if self._panels is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), MANY_ROWS)

    @cached_property
    def matrix(self) -> "Matrix | None":
        """For our own kernels; the bias is there only when all is loaded."""
        if self._panels is None:
            return None
        from audio_interaction_cli.kernels import Matrix
        from audio_interaction_cli.machine import BFLOAT16

        return Matrix(BFLOAT16, self._panels, _bias(self))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.matrix:
            return multiply(x, self)[0]
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
        self._panels: torch.Tensor | None = None  # where our own kernels multiply
        self._packed: torch.Tensor | None = None

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
        from audio_interaction_cli import kernels
        from audio_interaction_cli.machine import INT8

        if not self.weight_bytes:
            self.weight_bytes = self.weight.nbytes
            if kernels.fits(INT8, self.in_features, self.out_features, mixing(self.in_features)):
                self._panels = kernels.panels(self.weight.detach())
            else:
                self._packed = torch.ops.onednn.qlinear_prepack(self.weight.detach(), None)
                self._zeros = torch.zeros(self.out_features, dtype=torch.int64)
            del self.weight
        return self

    @cached_property
    def matrix(self) -> "Matrix | None":
        """For our own kernels; the bias is there only when all is loaded."""
        from audio_interaction_cli.kernels import Matrix
        from audio_interaction_cli.machine import INT8

        if self._panels is None:
            return None
        return Matrix(INT8, self._panels, _bias(self), self.weight_scale.detach(), mixing(self.in_features))

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
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, ZERO_POINT, self._packed, self.weight_scale, self._zeros, None, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip
        return y


def _bias(layer: PackedLinear | Int8Linear) -> torch.Tensor:
    """Of our own kernels, which always add one: float32 [out]."""
    return torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().float()


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
    elif isinstance(layer, nn.Linear) and packs(layer.weight.dtype, layer.weight.device):
        module.set_submodule(path, PackedLinear(layer))


def keep_exact(module: nn.Module) -> None:
    """Norms and biases in float32: int8 layers give float32, and what is done between them is then not rounded."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.LayerNorm | nn.RMSNorm):
            for name, vector in part.named_parameters(recurse=False):
                if vector.ndim == 1:
                    setattr(part, name, nn.Parameter(vector.float(), requires_grad=False))


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
