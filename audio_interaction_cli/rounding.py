"""Lays rows of inputs out in the words that they are multiplied by: code that `machine` compiles.

As they are, rounded to bfloat16, or, rotated first, to int8 with a scale for each row.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir

from audio_interaction_cli.forms import Form, to_bfloat16
from audio_interaction_cli.machine import F32, FLOATS, I32, I64, INTS, JOB, LANES, PTR, Code

LARGEST_INT8 = 127
TINY = 1e-30  # the scale of a row of zeros
WORD = 4  # bytes
SUMS = 16 if LANES == 16 else 8  # registers for them while groups are mixed, beside values and factors


@cache
def lay_out(form: Form) -> str:
    """Name of (job, thread, threads): its share of the channels of all rows, in the order of the products.

    Each word of a row lies beside those of the block's other rows. Floating-point numbers are made of x, integers lie
    in `rounded`.
    """
    code = Code(f"lay_out_{form.name}", PTR, I64, I64)
    job = code.fields(JOB, code.function.args[0])
    x, rounded, prepared = code.pointers(job, "x", "rounded", "prepared")
    first, last = code.share(code.udiv(job["channels"], I64(LANES)))
    words = LANES // form.inputs
    kind = ir.VectorType(I32, words)

    def block(number: Any) -> Sequence[Any]:
        target = code.place(prepared, code.mul(number, job["block_bytes"]))
        first_row = code.mul(number, job["block_rows"])
        rows = code.sub(job["rows"], first_row)
        rows = code.select(code.icmp_unsigned("<", rows, job["block_rows"]), rows, job["block_rows"])

        def part(number: Any) -> Sequence[Any]:
            def row(lane: Any) -> Sequence[Any]:
                place = code.add(code.mul(code.add(first_row, lane), job["channels"]), code.mul(number, I64(LANES)))
                if form.integer:
                    values = code.get(kind, rounded, place, WORD // form.inputs)
                else:
                    given = code.get(FLOATS, x, place, 4)
                    values = code.bitcast(given if form.inputs == 1 else to_bfloat16(code, given), kind)
                for n in range(words):
                    word = code.add(code.mul(number, I64(words)), I64(n))
                    index = code.add(code.mul(word, job["block_rows"]), lane)
                    code.put(code.extract_element(values, I32(n)), target, index, WORD)
                return []

            code.loop(I64(0), rows, I64(1), row)
            return []

        code.loop(first, last, I64(1), part)
        return []

    with code.if_then(code.icmp_unsigned("<", first, last)):
        code.loop(I64(0), job["blocks"], I64(1), block)
    return code.compiled()


@cache
def round_to_int8(form: Form, near: int) -> str:
    """Name of (job, thread, threads): its share of the rows of x, rotated and rounded by a scale of their own.

    The rotation is a Hadamard matrix of the size `near`, a power of two, within groups of channels, and `mixing` across
    groups, float32 [channels / near] squared.
    """
    code = Code(f"round_{form.name}_{near}", PTR, I64, I64)
    argument, thread, _ = code.function.args
    job = code.fields(JOB, argument)
    code.shared(job["rows"], lambda row: _round_row(code, job, form, near, thread, row))
    return code.compiled()


def _round_row(code: Code, job: dict[str, Any], form: Form, near: int, thread: Any, row: Any) -> Sequence[Any]:
    """A row rotated in this thread's part of the scratch, then rounded."""
    x, scratch, rounded, row_scales, row_sums = code.pointers(job, "x", "scratch", "rounded", "row_scales", "row_sums")
    channels, size = job["channels"], WORD // form.inputs
    source = code.gep(x, [code.mul(row, channels)], source_etype=F32)
    target = code.place(rounded, code.mul(row, channels), size)
    mixed = code.gep(scratch, [code.mul(code.mul(thread, I64(2)), channels)], source_etype=F32)
    rotated = code.gep(mixed, [channels], source_etype=F32)

    def hadamard(group: Any) -> Sequence[Any]:
        first = code.mul(group, I64(near))
        places = [code.add(first, I64(LANES * part)) for part in range(near // LANES)]
        for place, value in zip(places, _hadamard(code, [code.get(FLOATS, source, p, 4) for p in places]), strict=True):
            code.put(value, mixed, place, 4)
        return []

    code.loop(I64(0), code.udiv(channels, I64(near)), I64(1), hadamard)
    largest = code.across("fmax", _mix(code, job, near, mixed, rotated))
    scale = code.fadd(code.fmul(largest, F32(1 / LARGEST_INT8)), F32(TINY))
    code.put(scale, row_scales, row, 4)
    factor = code.spread(code.fdiv(F32(1.0), scale))

    def rounding(channel: Any, total: Any) -> Sequence[Any]:
        scaled = code.fmul(code.get(FLOATS, rotated, channel, 4), factor)
        whole = code.fptosi(code.vector("roundeven", scaled), INTS)
        narrow = code.trunc(whole, ir.VectorType(ir.IntType(8 * size), LANES))
        code.store(narrow, code.place(target, channel, size), align=1)
        return [code.add(total, whole)]

    (totals,) = code.loop(I64(0), channels, I64(LANES), rounding, INTS(None))
    code.put(code.across("add", totals), row_sums, row, 4)
    return []


def _mix(code: Code, job: dict[str, Any], near: int, mixed: Any, rotated: Any) -> Any:
    """All groups of channels mixed with each other, two at a time; the largest size of each lane."""
    (mixing,) = code.pointers(job, "mixing")
    far, parts = code.udiv(job["channels"], I64(near)), range(near // LANES)

    def mix(group: Any, largest: Any) -> Sequence[Any]:
        rows = [code.gep(mixing, [code.mul(code.add(group, I64(n)), far)], source_etype=F32) for n in range(2)]
        targets = [code.place(rotated, code.mul(code.add(group, I64(n)), I64(near)), 4) for n in range(2)]
        for first in parts[:: SUMS // 2]:
            some = parts[first : first + SUMS // 2]

            def add(number: Any, *sums: Any, some: range = some) -> Sequence[Any]:
                start = code.mul(number, I64(near))
                values = [code.get(FLOATS, mixed, code.add(start, I64(LANES * part)), 4) for part in some]
                factors = [code.spread(code.get(F32, of, number, 4)) for of in rows]
                pairs = [(factor, value) for factor in factors for value in values]
                return [code.vector("fma", *pair, total) for pair, total in zip(pairs, sums, strict=True)]

            sums = code.loop(I64(0), far, I64(1), add, *(FLOATS(None) for _ in range(2 * len(some))))
            places = [(target, part) for target in targets for part in some]
            for (target, part), total in zip(places, sums, strict=True):
                code.put(total, target, I64(LANES * part), 4)
                largest = code.vector("maxnum", largest, code.vector("fabs", total))
        return [largest]

    (largest,) = code.loop(I64(0), far, I64(2), mix, FLOATS(None))
    return largest


def _hadamard(code: Code, values: list[Any]) -> list[Any]:
    """Registers, side by side, times Sylvester's matrix of ones and minus ones."""
    stride = 1
    while stride < LANES:
        others = ir.Constant(INTS, [lane ^ stride for lane in range(LANES)])
        signs = ir.Constant(FLOATS, [-1.0 if lane & stride else 1.0 for lane in range(LANES)])
        values = [code.vector("fma", value, signs, code.shuffle_vector(value, value, others)) for value in values]
        stride *= 2
    stride = 1
    while stride < len(values):
        values = [
            code.fsub(values[n ^ stride], value) if n & stride else code.fadd(value, values[n ^ stride])
            for n, value in enumerate(values)
        ]
        stride *= 2
    return values
