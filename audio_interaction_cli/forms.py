"""The forms in which numbers are multiplied, and the instructions that do it. Knows registers, nothing of matrices.

A *step* is one register of weights, of as many outputs as it has lanes; a *word* is 32 bits of a row's inputs, by which
it is multiplied. Newer processors multiply bfloat16 and int8 as they are; for others weights are widened on their way.
"""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from llvmlite import ir

from audio_interaction_cli.machine import FLOATS, I8, I32, I64, INTS, LANES, REGISTER, Code

I16 = ir.IntType(16)
HALF_BITS, UPPER_HALF = 16, -(1 << 16)  # of 32 bits


class _BFloat(ir.Type):  # type: ignore[misc]
    def _to_string(self) -> str:
        return "bfloat"


PAIRS, QUADS = ir.VectorType(_BFloat(), 2 * LANES), ir.VectorType(I8, 4 * LANES)
SHORTS, HALVES = ir.VectorType(I16, 2 * LANES), ir.VectorType(I16, LANES)


@dataclass(frozen=True, slots=True, eq=False)  # two are the same or are not, which is found out at every call
class Form:
    """What is multiplied, and how."""

    weights: torch.dtype
    piece: torch.dtype  # so wide are an output's weights that lie side by side
    inputs: int  # in a word
    words: int  # in a step
    sums: ir.Type
    read: Callable[[Code, Any], list[Any]]
    """Weights at an address, a register for each word."""
    add: Callable[[Code, Any, Any, Any], Any]
    """To sums, such weights times a word that is in all lanes."""
    lanes: int
    needs: tuple[str, ...]  # of the processor, as torch names it
    zero: int = 0  # what stands for a weight of 0

    @property
    def name(self) -> str:
        """For functions that are compiled for it."""
        return f"{str(self.weights).removeprefix('torch.')}_{self.inputs}"

    @property
    def integer(self) -> bool:
        return self.weights is torch.int8

    @property
    def runs(self) -> bool:
        """Whether this processor has the instructions."""
        return self.lanes == LANES and _usable() and all(map(_able().get, self.needs))


@cache
def form(weights: torch.dtype) -> Form | None:
    """The fastest for such weights here."""
    return next((form for form in FORMS if form.weights is weights and form.runs), None)


@cache
def _able() -> dict[str, object]:
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


@cache
def _usable() -> bool:
    """Whether torch has an OpenMP pool that can be shared."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "GOMP_parallel")


def to_bfloat16(code: Code, values: Any) -> Any:
    """A register of float32 rounded to the nearest, to even where two are: the 16 bits of each."""
    if LANES == WIDE and _able().get(BFLOAT16_INSTRUCTIONS):
        return code.bitcast(code.fptrunc(values, ir.VectorType(_BFloat(), LANES)), HALVES)
    bits, half = code.bitcast(values, INTS), code.spread(I32(HALF_BITS))
    odd = code.and_(code.lshr(bits, half), code.spread(I32(1)))
    rounded = code.add(code.add(bits, code.spread(I32((1 << (HALF_BITS - 1)) - 1))), odd)
    return code.trunc(code.lshr(rounded, half), HALVES)


def _as_it_is(kind: ir.Type) -> Callable[[Code, Any], list[Any]]:
    return lambda code, at: [code.load(at, typ=kind, align=REGISTER)]


def _by(instruction: str, sums: ir.Type, factors: ir.Type) -> Callable[[Code, Any, Any, Any], Any]:
    return lambda code, total, weights, word: code.invoke(
        instruction, sums, total, weights, code.bitcast(word, factors)
    )


def _floats(code: Code, at: Any) -> list[Any]:
    """Of pairs of bfloat16, each float32's upper half."""
    pairs = code.load(at, typ=INTS, align=REGISTER)
    parts = code.shl(pairs, code.spread(I32(HALF_BITS))), code.and_(pairs, code.spread(I32(UPPER_HALF)))
    return [code.bitcast(part, FLOATS) for part in parts]


def _add_floats(code: Code, total: Any, weights: Any, word: Any) -> Any:
    """In place: left to itself LLVM takes another register for the sum, and then has too few."""
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    given = weights, code.bitcast(word, FLOATS), total
    return code.asm(kind, "vfmadd231ps $2, $1, $0", "=v,v,v,0", given, side_effect=False)


def _shorts(code: Code, at: Any) -> list[Any]:
    """Of int8, int16."""
    parts = [code.place(at, I64(n), REGISTER // 2) for n in range(2)]
    bytes_ = ir.VectorType(I8, 2 * LANES)
    return [code.sext(code.load(part, typ=bytes_, align=REGISTER // 2), SHORTS) for part in parts]


def _add_shorts(code: Code, total: Any, weights: Any, word: Any) -> Any:
    instruction = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[LANES]
    return code.add(total, code.invoke(instruction, INTS, weights, code.bitcast(word, SHORTS)))


WIDE = 16  # lanes
BFLOAT16_INSTRUCTIONS = "avx512_bf16"
VNNI = {8: "avx_vnni", WIDE: "avx512_vnni"}  # by lanes
FORMS = (  # the fastest first
    Form(
        torch.bfloat16, torch.int32, 2, 1, FLOATS, _as_it_is(PAIRS),
        _by("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, PAIRS), WIDE, (BFLOAT16_INSTRUCTIONS,),
    ),
    Form(
        torch.int8, torch.int32, 4, 1, INTS, _as_it_is(QUADS),
        _by(f"llvm.x86.avx512.vpdpbusd.{32 * LANES}", INTS, QUADS), LANES, (VNNI[LANES],), zero=128,
    ),
    Form(torch.bfloat16, torch.int32, 1, 2, FLOATS, _floats, _add_floats, LANES, ("avx2", "fma3")),
    Form(torch.int8, torch.int16, 2, 2, INTS, _shorts, _add_shorts, LANES, ("avx2", "fma3")),
)  # fmt: skip
