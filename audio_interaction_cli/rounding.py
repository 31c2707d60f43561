"""Rounds rows of inputs and lays them out as they are multiplied: code that `machine` compiles.

To bfloat16, or, rotated first, to int8 with a scale for each row.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir

from audio_interaction_cli.machine import (
    F32,
    FLOATS,
    HALVES,
    I8,
    I32,
    I64,
    INT8,
    INTS,
    JOB,
    LANES,
    PTR,
    Code,
    Form,
)

LARGEST_INT8 = 127
TINY = 1e-30  # the scale of a row of zeros


@cache
def lay_out(form: Form) -> str:
    """Name of (job, thread, threads): its share of the channels of all rows, in the order of the products.

    Each 32 bits of a row lie beside those of the block's other rows. bfloat16 numbers are rounded from x, int8 ones are
    in `rounded`.
    """
    code = Code(f"lay_out_{form.unit}", PTR, I64, I64)
    job = code.fields(JOB, code.function.args[0])
    x, rounded, prepared = code.pointers(job, "x", "rounded", "prepared")
    first, last = code.share(code.udiv(job["channels"], I64(LANES)))
    units = LANES // form.unit

    def block(number: Any) -> Sequence[Any]:
        target = code.place(prepared, code.mul(number, job["block_bytes"]))
        first_row = code.mul(number, job["block_rows"])
        rows = code.sub(job["rows"], first_row)
        rows = code.select(code.icmp_unsigned("<", rows, job["block_rows"]), rows, job["block_rows"])

        def part(number: Any) -> Sequence[Any]:
            def row(lane: Any) -> Sequence[Any]:
                place = code.add(code.mul(code.add(first_row, lane), job["channels"]), code.mul(number, I64(LANES)))
                if form is INT8:
                    values = code.get(ir.VectorType(I32, units), rounded, place, 1)
                else:
                    halves = code.fptrunc(code.get(FLOATS, x, place, 4), HALVES)
                    values = code.bitcast(halves, ir.VectorType(I32, units))
                for n in range(units):
                    unit = code.add(code.mul(number, I64(units)), I64(n))
                    index = code.add(code.mul(unit, job["block_rows"]), lane)
                    code.put(code.extract_element(values, I32(n)), target, index, 4)
                return []

            code.loop(I64(0), rows, I64(1), row)
            return []

        code.loop(first, last, I64(1), part)
        return []

    with code.if_then(code.icmp_unsigned("<", first, last)):
        code.loop(I64(0), job["blocks"], I64(1), block)
    return code.compiled()


@cache
def round_to_int8(near: int) -> str:
    """Name of (job, thread, threads): its share of the rows of x, rotated and rounded by a scale of their own.

    The rotation is a Hadamard matrix of the size `near`, a power of two, within groups of channels, and `mixing` across
    groups, float32 [channels / near] squared.
    """
    code = Code(f"round_{near}", PTR, I64, I64)
    argument, thread, _ = code.function.args
    job = code.fields(JOB, argument)
    code.shared(job["rows"], lambda row: _round_row(code, job, near, thread, row))
    return code.compiled()


def _round_row(code: Code, job: dict[str, Any], near: int, thread: Any, row: Any) -> Sequence[Any]:
    """A row rotated in this thread's part of the scratch, then rounded."""
    x, mixing, scratch, rounded, row_scales, row_sums = code.pointers(
        job, "x", "mixing", "scratch", "rounded", "row_scales", "row_sums"
    )
    source = code.gep(x, [code.mul(row, job["channels"])], source_etype=F32)
    target = code.place(rounded, code.mul(row, job["channels"]))
    channels, far = job["channels"], code.udiv(job["channels"], I64(near))
    mixed = code.gep(scratch, [code.mul(code.mul(thread, I64(2)), channels)], source_etype=F32)
    rotated = code.gep(mixed, [channels], source_etype=F32)
    parts = range(near // LANES)

    def hadamard(group: Any) -> Sequence[Any]:
        first = code.mul(group, I64(near))
        values = [code.get(FLOATS, source, code.add(first, I64(LANES * part)), 4) for part in parts]
        for part, value in enumerate(_hadamard(code, values)):
            code.put(value, mixed, code.add(first, I64(LANES * part)), 4)
        return []

    def mix(group: Any, largest: Any) -> Sequence[Any]:
        """Two groups at a time."""
        rows = [code.gep(mixing, [code.mul(code.add(group, I64(n)), far)], source_etype=F32) for n in range(2)]

        def add(number: Any, *sums: Any) -> Sequence[Any]:
            first = code.mul(number, I64(near))
            values = [code.get(FLOATS, mixed, code.add(first, I64(LANES * part)), 4) for part in parts]
            factors = [code.spread(code.get(F32, of, number, 4)) for of in rows]
            pairs = [(factor, value) for factor in factors for value in values]
            return [
                code.invoke("llvm.fma.v16f32", FLOATS, *pair, total) for pair, total in zip(pairs, sums, strict=True)
            ]

        sums = code.loop(I64(0), far, I64(1), add, *(FLOATS(None) for _ in range(2 * len(parts))))
        for n, total in enumerate(sums):
            code.put(total, rotated, code.add(code.mul(group, I64(near)), I64(LANES * n)), 4)
            size = code.invoke("llvm.fabs.v16f32", FLOATS, total)
            largest = code.invoke("llvm.maxnum.v16f32", FLOATS, largest, size)
        return [largest]

    code.loop(I64(0), far, I64(1), hadamard)
    (sizes,) = code.loop(I64(0), far, I64(2), mix, FLOATS(None))
    largest = code.invoke("llvm.vector.reduce.fmax.v16f32", F32, sizes)
    scale = code.fadd(code.fmul(largest, F32(1 / LARGEST_INT8)), F32(TINY))
    code.put(scale, row_scales, row, 4)
    factor = code.spread(code.fdiv(F32(1.0), scale))

    def rounding(channel: Any, total: Any) -> Sequence[Any]:
        scaled = code.fmul(code.get(FLOATS, rotated, channel, 4), factor)
        whole = code.fptosi(code.invoke("llvm.roundeven.v16f32", FLOATS, scaled), INTS)
        code.store(code.trunc(whole, ir.VectorType(I8, LANES)), code.place(target, channel), align=1)
        return [code.add(total, whole)]

    (totals,) = code.loop(I64(0), channels, I64(LANES), rounding, INTS(None))
    code.put(code.invoke("llvm.vector.reduce.add.v16i32", I32, totals), row_sums, row, 4)
    return []


def _hadamard(code: Code, values: list[Any]) -> list[Any]:
    """Registers, side by side, times Sylvester's matrix of ones and minus ones."""
    for stride in (1, 2, 4, 8):
        others = ir.Constant(INTS, [lane ^ stride for lane in range(LANES)])
        signs = ir.Constant(FLOATS, [-1.0 if lane & stride else 1.0 for lane in range(LANES)])
        values = [
            code.invoke("llvm.fma.v16f32", FLOATS, value, signs, code.shuffle_vector(value, value, others))
            for value in values
        ]
    stride = 1
    while stride < len(values):
        values = [
            code.fsub(values[n ^ stride], value) if n & stride else code.fadd(value, values[n ^ stride])
            for n, value in enumerate(values)
        ]
        stride *= 2
    return values
