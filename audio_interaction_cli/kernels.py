"""Products of a few rows with matrices, compiled for this processor. Knows numbers in memory, nothing of layers.

A chunk is 13 rows and a token is one, which libraries made for many rows multiply far more slowly than memory and
arithmetic allow. Here weights lie in panels of as many outputs as a register has lanes, in the order in which they are
read: once, while the sums of up to 13 rows stay in registers. The same call first lays the inputs out as `forms` has
it. Its threads are those of torch's own OpenMP pool, with which a second pool would fight for the cores. The code for a
number of rows is compiled at its first use.

Sums are float32 of bfloat16 products, or exact int32. Each row comes out the same whatever rows are beside it.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from llvmlite import ir

from audio_interaction_cli.forms import Form
from audio_interaction_cli.machine import F32, FLOATS, I32, I64, JOB, LANES, LAYER, PTR, REGISTER, Code, Tape
from audio_interaction_cli.memory import in_large_pages
from audio_interaction_cli.rounding import WORD, lay_out, round_to_int8

MULTIPLE, NEAR = 64, 16  # of which inputs and outputs must be, and the groups in which int8 inputs are rotated
AHEAD_BYTES = 768  # so much further on, weights are asked for: where pages end, processors do not do so by themselves
MOST_ROWS = 13  # at once: two panels keep more bytes on their way than one
PANELS = 2 if LANES == 16 else 1  # at once with so many rows: registers for their sums, beside weights and an input


class Matrix(NamedTuple):
    """Weights in panels, and what belongs to them."""

    form: Form
    panels: torch.Tensor  # [out / lanes, in / so many in a piece, lanes], of pieces
    bias: torch.Tensor  # float32 [out]
    scales: torch.Tensor | None = None  # of int8: float32 [out]
    mixing: torch.Tensor | None = None  # of int8: float32 [far, far], as `round_to_int8` rotates its inputs

    @property
    def zeros(self) -> torch.Tensor:
        """float32 [out], onto which sums are added when onto nothing else."""
        return _zeros(len(self.bias))


@cache
def _zeros(size: int) -> torch.Tensor:
    return torch.zeros(size)


def panels(form: Form, weight: torch.Tensor) -> torch.Tensor:
    """Weights [out, in] as [out / lanes, in / so many in a piece, lanes], of pieces: some outputs' side by side."""
    pieces = weight.contiguous().view(form.piece)
    panels = in_large_pages(weight.nbytes).view(form.piece).view(len(weight) // LANES, pieces.shape[1], LANES)
    tape = Tape()
    tape.add(_side_by_side(form), [pieces.data_ptr(), panels.data_ptr(), len(panels), pieces.shape[1]], pieces, panels)
    tape.player()()
    return panels


@cache
def _side_by_side(form: Form) -> str:
    """Name of (arguments, thread, threads): its share of the panels."""
    code = Code(f"side_by_side_{form.name}", PTR, I64, I64)
    fields = code.fields(("pieces", "panels", "count", "steps"), code.function.args[0])
    source, target = code.pointers(fields, "pieces", "panels")
    size, steps = form.piece.itemsize, fields["steps"]
    kind = ir.VectorType(ir.IntType(8 * size), LANES)
    zero = kind([int.from_bytes([form.zero] * size, "little")] * LANES)

    def panel(number: Any) -> Sequence[Any]:
        rows = [
            code.place(source, code.mul(code.add(code.mul(number, I64(LANES)), I64(lane)), steps), size)
            for lane in range(LANES)
        ]
        start = code.place(target, code.mul(number, steps), LANES * size)

        def step(number: Any) -> Sequence[Any]:
            register = kind(ir.Undefined)
            for lane, row in enumerate(rows):
                piece = code.load(code.place(row, number, size), typ=kind.element, align=size)
                register = code.insert_element(register, piece, I32(lane))
            code.put(code.xor(register, zero), start, number, LANES * size)
            return []

        return code.loop(I64(0), steps, I64(1), step)

    code.shared(fields["count"], panel)
    return code.compiled()


def fits(inputs: int, outputs: int, mixing: torch.Tensor | None = None) -> bool:
    """Whether such a matrix can be multiplied."""
    far = 0 if mixing is None else len(mixing)  # mixed in pairs, over whole registers
    near = NEAR if not far else inputs // far
    return inputs % MULTIPLE == outputs % MULTIPLE == near % NEAR == far % 2 == 0


def shared_rows(rows: int) -> tuple[int, int]:
    """Blocks of rows whose sums stay in registers, and the rows of each; together some more than asked for."""
    blocks = -(-rows // MOST_ROWS)
    return blocks, -(-rows // blocks)


def room_for_rows(rows: int, width: int) -> torch.Tensor:
    """float32 [rows and some more, width]: what is multiplied is written in whole blocks."""
    return torch.empty(math.prod(shared_rows(rows)), width)


def room_for_inputs(form: Form, rows: int, channels: int, threads: int) -> tuple[torch.Tensor, list[int]]:
    """Room for inputs as they are multiplied, which products may use in turn, and where in it each part begins."""
    padded = math.prod(shared_rows(rows))
    sizes = [padded * channels // form.inputs * WORD, padded * 4, padded * 4]
    if form.integer:
        sizes += [threads * 2 * channels * 4, rows * channels // form.inputs * WORD]
    *starts, size = accumulate((-(-size // MULTIPLE) * MULTIPLE for size in sizes), initial=0)
    return torch.empty(size, dtype=torch.uint8), starts


def multiply(
    tape: Tape,
    x: torch.Tensor,
    rows: int,
    matrices: Sequence[Matrix],
    outputs: Sequence[torch.Tensor],
    *,
    onto: torch.Tensor | None = None,
    room: tuple[torch.Tensor, list[int]] | None = None,
) -> None:
    """Rows of x, float32 [rows or more, in], times matrices of one form and one width, each into its outputs.

    Outputs are columns of what `room_for_rows` gives; `onto` is added to them, of the same shape. The last step on the
    tape is the products alone.
    """
    form, mixing, channels = matrices[0].form, matrices[0].mixing, x.shape[1]
    blocks, block_rows = shared_rows(rows)
    inputs, starts = room or room_for_inputs(form, rows, channels, tape.threads)
    prepared, row_scales, row_sums, *rotated = (inputs.data_ptr() + start for start in starts)
    scratch, rounded = rotated or (0, 0)
    job = [
        x.data_ptr(), rows, channels, block_rows, 0 if mixing is None else mixing.data_ptr(), scratch, rounded,
        prepared, row_scales, row_sums, blocks, block_rows * channels // form.inputs * WORD,
        len(matrices),
    ]  # fmt: skip
    for matrix, y in zip(matrices, outputs, strict=True):
        scales = 0 if matrix.scales is None else matrix.scales.data_ptr()
        base, base_row = (matrix.zeros, 0) if onto is None else (onto, 4 * onto.stride(0))
        job += matrix.panels.data_ptr(), matrix.bias.data_ptr(), scales, base.data_ptr(), base_row
        job += y.data_ptr(), 4 * y.stride(0), len(matrix.bias), 0, 0
    if form.integer:
        assert mixing is not None
        tape.add(round_to_int8(form, channels // len(mixing)), job)
    tape.add(lay_out(form), job)
    tape.add(_multiply(form, block_rows), job, x, matrices, outputs, onto, inputs)


class Products:
    """x, float32 [rows, in], times matrices of one form and one width; `y`, float32 [rows, out] each, after `run`."""

    def __init__(self, x: torch.Tensor, matrices: Sequence[Matrix]) -> None:
        outputs = [room_for_rows(len(x), len(matrix.bias)) for matrix in matrices]
        self._tape = Tape()
        multiply(self._tape, x, len(x), matrices, outputs)
        self.y = [y[: len(x)] for y in outputs]

    def run(self) -> list[torch.Tensor]:
        """`y`, computed."""
        self._tape.player()()
        return self.y

    def again(self) -> Callable[[], object]:
        """What computes `y` from inputs that have been rounded before."""
        return self._tape.player(-1)


@cache
def _multiply(form: Form, block_rows: int) -> str:
    """Name of (job, thread, threads): its share of the outputs of all layers, blocks of so many rows at a time."""
    code = Code(f"multiply_{form.name}_{block_rows}", PTR, I64, I64)
    argument = code.function.args[0]
    job = code.fields(JOB, argument)
    prepared, row_scales, row_sums = code.pointers(job, "prepared", "row_scales", "row_sums")
    together = max(n for n in (1, 2, 4) if n == 1 or n * block_rows <= PANELS * MOST_ROWS)  # panels
    steps = code.udiv(job["channels"], I64(form.inputs * form.words))
    panel_bytes = code.mul(steps, I64(REGISTER))
    rows = I64(block_rows)
    sums = [(row, panel) for row in range(block_rows) for panel in range(together)]

    def layer(number: Any) -> Sequence[Any]:
        place = code.place(argument, code.add(code.mul(number, I64(len(LAYER))), I64(len(JOB))), 8)
        fields = code.fields(LAYER, place)
        weights, bias, scales, onto, y = code.pointers(fields, "panels", "bias", "scales", "onto", "y")

        def group(number: Any) -> Sequence[Any]:
            firsts = [code.add(code.mul(number, I64(together)), I64(panel)) for panel in range(together)]
            starts = [code.place(weights, code.mul(panel, panel_bytes)) for panel in firsts]

            def block(number: Any) -> Sequence[Any]:
                inputs = code.place(prepared, code.mul(number, job["block_bytes"]))

                def word(number: Any, row: Any) -> Any:
                    return code.place(inputs, code.add(code.mul(number, rows), row), WORD)

                nothing = [form.sums(None) for _ in sums]
                totals = sums_of_products(code, form, starts, word, steps, nothing, ahead_bytes=AHEAD_BYTES)
                for total, (row, panel) in zip(totals, sums, strict=True):
                    place = code.add(code.mul(number, I64(block_rows)), I64(row))
                    if form.integer:
                        shift = code.mul(code.get(I32, row_sums, place, 4), I32(form.zero))
                        total = code.sitofp(code.sub(total, code.spread(shift)), FLOATS)
                        total = code.fmul(total, code.spread(code.get(F32, row_scales, place, 4)))
                        total = code.fmul(total, code.get(FLOATS, scales, firsts[panel], REGISTER))
                    total = code.fadd(total, code.get(FLOATS, bias, firsts[panel], REGISTER))
                    base = code.place(onto, code.mul(place, fields["onto_row"]))
                    total = code.fadd(total, code.get(FLOATS, base, firsts[panel], REGISTER))
                    code.put(total, code.place(y, code.mul(place, fields["y_row"])), firsts[panel], REGISTER)
                return []

            return code.loop(I64(0), job["blocks"], I64(1), block)

        counters = code.place(place, I64(LAYER.index("taken")), 8)
        code.take(counters, code.udiv(fields["outputs"], I64(LANES * together)), group)
        return []

    code.loop(I64(0), job["layers"], I64(1), layer)
    return code.compiled()


def sums_of_products(
    code: Code,
    form: Form,
    panels: Sequence[Any],
    word_of: Callable[[Any, Any], Any],
    steps: Any,
    sums: Sequence[Any],
    *,
    ahead_bytes: int = 0,
) -> Sequence[Any]:
    """`sums`, a register for each row and panel, and all products of rows and panels added to them.

    Panels begin at addresses and have so many steps of a register each; `word_of` is the address of a row's word of
    inputs, by its number. Panels that come from memory are asked for so much ahead.
    """

    def step(number: Any, *so_far: Any) -> Sequence[Any]:
        places = [code.place(start, number, REGISTER) for start in panels]
        for place in places if ahead_bytes else []:
            code.fetch(code.place(place, I64(ahead_bytes)))
        read = [form.read(code, place) for place in places]
        totals = list(so_far)
        for part in range(form.words):
            word = code.add(code.mul(number, I64(form.words)), I64(part))
            for row in range(len(totals) // len(panels)):  # one input in a register at a time
                inputs = code.spread(code.load(word_of(word, I64(row)), typ=I32, align=WORD))
                for index, weights in enumerate(read, row * len(panels)):
                    totals[index] = form.add(code, totals[index], weights[part], inputs)
        return totals

    return code.loop(I64(0), steps, I64(1), step, *sums)
