"""Runs tests of what `machine` compiles with registers of 8 or 16 lanes and in all forms, whatever the processor has.

LLVM splits registers that are too wide; the few instructions that only newer ones have are computed by others here.
`python -m tests.lanes LANES TEST...`
"""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

WANTED = int(sys.argv[1])
torch.backends.cpu.get_cpu_capability = lambda: {8: "AVX2", 16: "AVX512"}[WANTED]  # before it is asked

from audio_interaction_cli import forms  # noqa: E402
from audio_interaction_cli.machine import FLOATS, I32, INTS, LANES, Code  # noqa: E402


def part(code: Code, values: Any, bits: int, number: int, *, signed: bool) -> Any:
    """So many bits of each lane, as an integer of 32."""
    left, right = (code.spread(I32(n)) for n in (32 - bits * (number + 1), 32 - bits))
    values = code.shl(code.bitcast(values, INTS), left)
    return code.ashr(values, right) if signed else code.lshr(values, right)


def add_bfloat16_pairs(code: Code, total: Any, weights: Any, word: Any) -> Any:
    for number in range(2):
        halves = (part(code, of, 16, number, signed=False) for of in (weights, word))
        factors = (code.bitcast(code.shl(half, code.spread(I32(16))), FLOATS) for half in halves)
        total = code.vector("fma", *factors, total)
    return total


def adding_integers(bits: int, *, weights_signed: bool) -> Callable[..., Any]:
    def add(code: Code, total: Any, weights: Any, word: Any) -> Any:
        for number in range(32 // bits):
            weight = part(code, weights, bits, number, signed=weights_signed)
            total = code.add(total, code.mul(weight, part(code, word, bits, number, signed=True)))
        return total

    return add


def add_floats(code: Code, total: Any, weights: Any, word: Any) -> Any:
    return code.vector("fma", weights, code.bitcast(word, FLOATS), total)


if __name__ == "__main__":
    assert WANTED == LANES
    ways = (
        add_bfloat16_pairs,
        adding_integers(8, weights_signed=False),
        add_floats,
        adding_integers(16, weights_signed=True),
    )
    for form, add in zip(forms.FORMS, ways, strict=True):
        object.__setattr__(form, "add", add)
        object.__setattr__(form, "needs", ("avx2",))
    sys.exit(pytest.main(["--quiet", *sys.argv[2:]]))
