"""What products this processor, with this torch, computes fast. Knows formats of numbers, nothing of matrices."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # its compiler is imported where it is needed: it takes a tenth of a second
    from audio_interaction_cli.forms import Form


def packs(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this torch on this machine can pack layers of that dtype."""
    if device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


def own_form(weights: torch.dtype, device: torch.device) -> "Form | None":
    """In which our own kernels multiply such weights there."""
    if device.type != "cpu" or weights not in (torch.bfloat16, torch.int8):
        return None
    from audio_interaction_cli.forms import form

    return form(weights)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are fast on a CPU."""
    return packs(torch.bfloat16, device) or gives_float32(torch.bfloat16, device)


def multiplies_int8(device: torch.device) -> bool:
    """Whether int8 products are exact and fast there: by our own kernels, or by oneDNN's."""
    return own_form(torch.int8, device) is not None or onednn_multiplies_int8(device)


def onednn_multiplies_int8(device: torch.device) -> bool:
    """Exactly, which takes VNNI: without it sums of 8 bits overflow."""
    if device.type != "cpu" or not hasattr(torch.ops.onednn, "qlinear_prepack"):
        return False
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_vnni") or able.get("avx_vnni"))


def gives_float32(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether packed layers of that dtype are best given float32, and give their sums without rounding them."""
    return dtype is torch.bfloat16 and own_form(dtype, device) is not None
