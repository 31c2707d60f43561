"""Attention of new positions over a cache, in bfloat16: code that `machine` compiles. Knows numbers in memory only.

All heads of a group share its keys, so they are rows of one product with them. A thread takes keys and values some
positions at a time, brings them into panels once for all its rows, and keeps for each row the largest score so far, the
sum of the shares and the values weighed by them (Milakov and Gimelshein's online softmax, as in FlashAttention). Scores
and sums are float32, keys and values bfloat16; queries and shares are what `forms` multiplies bfloat16 by.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from llvmlite import ir

from audio_interaction_cli.forms import Form, form
from audio_interaction_cli.heads import Some, begin, fields_of, places_of, put_halves, remember, rotated
from audio_interaction_cli.kernels import PANELS, shared_rows, sums_of_products
from audio_interaction_cli.machine import F32, FLOATS, I8, I32, I64, LANES, PTR, REGISTER, Code, Tape
from audio_interaction_cli.memory import POSITIONS_TOGETHER, room_for_positions
from audio_interaction_cli.pointwise import constant, power_of_two
from audio_interaction_cli.rounding import WORD

SIZES = 32  # of heads, whose multiples can be looked at
HIDDEN = -1e30  # a score that is not seen


def fits(keys: torch.Tensor) -> bool:
    """Whether `attend` can: keys, bfloat16 [..., size], on a processor that multiplies them."""
    return form(keys.dtype) is not None and keys.device.type == "cpu" and keys.shape[-1] % SIZES == 0


def attend(
    tape: Tape,
    x: torch.Tensor,
    count: int,
    turn: tuple[torch.Tensor, torch.Tensor],
    keys: torch.Tensor,
    values: torch.Tensor,
    start: ctypes.c_int64,
    y: torch.Tensor,
    *,
    causal: bool = True,
) -> None:
    """What `count` new positions, behind `start` older ones, see in all up to themselves, or in all, into y.

    x, float32 [count or more, (heads + 2 * groups) * size], is their queries, keys and values side by side. Queries
    and keys are rotated by `turn`, cosine and sine, float32 [count, size], the sine negative in the first half; new
    keys and values are written into `keys` and `values`, bfloat16 [groups, positions, size], of which keys have their
    positions side by side; behind each there is `room_for_positions`. y is float32 [count or more, heads * size].
    """
    form_ = form(keys.dtype)
    assert form_
    groups, size = keys.shape[0], keys.shape[2]
    heads = y.shape[1] // size
    rows = heads // groups * count
    blocks, block_rows = shared_rows(rows)
    together = min(POSITIONS_TOGETHER, room_for_positions(keys.shape[1]))
    padded = groups * blocks * block_rows
    room = [torch.empty(padded, width) for width in (size // form_.inputs, LANES, LANES, size)]
    arguments = [
        x.data_ptr(), *(angles.data_ptr() for angles in turn), keys.data_ptr(), values.data_ptr(), y.data_ptr(),
        ctypes.addressof(start), count, heads, groups, 4 * x.stride(0), 2 * keys.stride(0), 2 * keys.stride(2),
        2 * values.stride(0), 2 * values.stride(1), causal, rows, blocks, *(part.data_ptr() for part in room),
    ]  # fmt: skip
    tape.add(remember(size), arguments)
    tape.add(_see(form_, size, block_rows, together), arguments, x, turn, keys, values, start, y, room)


@cache
def _see(form: Form, size: int, block_rows: int, together: int) -> str:
    """Name of (arguments, thread, threads): its share of the rows of each group, or of the groups."""
    code = Code(f"see_{size}_{block_rows}_{together}", PTR, I64, I64)
    see = _See(code, form, size, block_rows, together)
    groups, blocks, threads = see.fields["groups"], see.fields["blocks"], code.function.args[2]
    parts = code.udiv(code.add(threads, code.sub(groups, I64(1))), groups)  # of a group, when threads are more

    def task(number: Any) -> Sequence[Any]:
        group, part = code.udiv(number, parts), code.urem(number, parts)
        first, last = (code.udiv(code.mul(blocks, n), parts) for n in (part, code.add(part, I64(1))))
        with code.if_then(code.icmp_unsigned("<", first, last)):
            code.loop(first, last, I64(1), lambda block: see.ask(group, block))
            code.loop(I64(0), see.end, I64(together), lambda position: see.look(group, first, last, position))
            code.loop(first, last, I64(1), lambda block: see.tell(group, block))
        return []

    code.shared(code.mul(groups, parts), task)
    return code.compiled()


class _See:
    """Writes the parts of `_see`; a block is so many rows, of which a group has the same number of blocks."""

    def __init__(self, code: Code, form: Form, size: int, block_rows: int, together: int) -> None:
        self.code, self.form, self.fields = code, form, fields_of(code)
        self.size, self.block_rows, self.together = size, block_rows, together
        self.end = code.add(self.fields["start"], self.fields["count"])
        self.of_keys, self.of_values = (self._on_stack(2 * together * size) for _ in range(2))
        self.shares = self._on_stack(block_rows * self._row_bytes(together))
        self.scores, self.factors = (self._on_stack(4 * n) for n in (block_rows * together, block_rows * LANES))

    def _row_bytes(self, width: int) -> int:
        """Of so many numbers that are multiplied by keys or values."""
        return width // self.form.inputs * WORD

    def _put(self, value: Any, row: Any, part: Any) -> None:
        """A register of such numbers."""
        if self.form.inputs == 1:
            self.code.put(value, row, part, REGISTER)
        else:
            put_halves(self.code, value, row, part)

    def _on_stack(self, size: int) -> Any:
        room = self.code.alloca(ir.ArrayType(I8, size))
        room.align = REGISTER
        return self.code.inttoptr(self.code.ptrtoint(room, I64), PTR)

    def _room(self, group: Any, block: Any) -> list[Any]:
        """Where a block's queries, largest scores, shares and sums begin."""
        code = self.code
        number = code.add(code.mul(group, self.fields["blocks"]), block)
        rooms = code.pointers(self.fields, "queries", "largest", "shares", "sums")
        sizes = (self._row_bytes(self.size), REGISTER, REGISTER, 4 * self.size)
        return [code.place(room, number, self.block_rows * size) for room, size in zip(rooms, sizes, strict=True)]

    def _row(self, group: Any, block: Any, row: Any) -> tuple[Any, Any]:
        """Head and number of the new position of a row; the last one's beyond the last."""
        code, rows = self.code, self.fields["rows"]
        number = code.add(code.mul(block, I64(self.block_rows)), row)
        number = code.select(code.icmp_unsigned("<", number, rows), number, code.sub(rows, I64(1)))
        head = code.add(code.mul(group, code.udiv(rows, self.fields["count"])), code.udiv(number, self.fields["count"]))
        return head, code.urem(number, self.fields["count"])

    def ask(self, group: Any, block: Any) -> Sequence[Any]:
        """Queries, scaled so that scores are exponents of two, and nothing seen yet."""
        code, size = self.code, self.size
        queries, largest, shares, sums = self._room(group, block)

        def row(number: Any) -> Sequence[Any]:
            head, count = self._row(group, block, number)
            scale = constant(code, size**-0.5 / math.log(2))
            row_of_queries = code.place(queries, number, self._row_bytes(size))
            row_of_sums = code.place(sums, number, 4 * size)

            def write(part: Any, turned: Any) -> None:
                self._put(code.fmul(turned, scale), row_of_queries, part)
                code.put(FLOATS(None), row_of_sums, part, REGISTER)

            rotated(code, self.fields, size, head, count, write)
            code.put(constant(code, HIDDEN), largest, number, REGISTER)
            code.put(FLOATS(None), shares, number, REGISTER)
            return []

        return code.each(self.block_rows, row)

    def look(self, group: Any, first: Any, last: Any, position: Any) -> Sequence[Any]:
        """At the positions from that one on, with all rows of these blocks."""
        code = self.code
        key, value = begin(code, self.fields, group, position)
        some = Some(code, self.fields, self.size, self.together, code.sub(self.end, position))
        some.read_keys(key, self.of_keys)
        some.read_values(value, self.of_values)
        return code.loop(first, last, I64(1), lambda block: self._weigh(group, block, position))

    def _sums(self, rows: Any, width: int, panels: Any, numbers: list[Any], before: list[Any]) -> Sequence[Any]:
        """Of rows of so many numbers with as many panels as fit, onto those before."""
        code = self.code
        starts = [code.place(panels, code.mul(number, I64(width // 2)), REGISTER) for number in numbers]
        return sums_of_products(
            code,
            self.form,
            starts,
            lambda word, row: code.place(code.place(rows, row, self._row_bytes(width)), word, WORD),
            I64(width // 2),
            before,
        )

    def _weigh(self, group: Any, block: Any, position: Any) -> Sequence[Any]:
        """These positions' values, by the shares that a block's rows give them."""
        code, size = self.code, self.size
        queries, largest, shares, sums = self._room(group, block)
        pairs = [(row, panel) for row in range(self.block_rows) for panel in range(PANELS)]

        def some(number: Any, width: int) -> tuple[list[Any], list[Any]]:
            """The next panels, and where in rows of such a width their sums are."""
            panels = [code.add(code.mul(number, I64(PANELS)), I64(n)) for n in range(PANELS)]
            return panels, [code.add(I64(row * width // LANES), panels[panel]) for row, panel in pairs]

        def ask(number: Any) -> Sequence[Any]:
            panels, places = some(number, self.together)
            totals = self._sums(queries, size, self.of_keys, panels, [FLOATS(None)] * len(pairs))
            for total, place in zip(totals, places, strict=True):
                code.put(total, self.scores, place, REGISTER)
            return []

        def see(number: Any) -> Sequence[Any]:
            panels, places = some(number, size)
            before = [
                code.fmul(code.get(FLOATS, sums, place, REGISTER), code.get(FLOATS, self.factors, I64(row), REGISTER))
                for place, (row, _) in zip(places, pairs, strict=True)
            ]
            totals = self._sums(self.shares, self.together, self.of_values, panels, before)
            for total, place in zip(totals, places, strict=True):
                code.put(total, sums, place, REGISTER)
            return []

        code.each(self.together // LANES // PANELS, ask)
        code.each(self.block_rows, lambda row: self._soften(group, block, row, position, largest, shares))
        return code.each(size // LANES // PANELS, see)

    def _soften(self, group: Any, block: Any, row: Any, position: Any, largest: Any, shares: Any) -> Sequence[Any]:
        """A row's shares of these positions, and the factor by which what it had so far shrinks."""
        code, fields = self.code, self.fields
        _, count = self._row(group, block, row)
        count = code.select(code.trunc(fields["causal"], ir.IntType(1)), count, code.sub(fields["count"], I64(1)))
        seen = code.spread(code.trunc(code.sub(code.add(fields["start"], count), position), I32))  # the last
        scores = code.place(self.scores, row, 4 * self.together)
        before = code.get(FLOATS, largest, row, REGISTER)

        def find(part: Any, most: Any) -> Sequence[Any]:
            visible = code.icmp_signed("<=", places_of(code, part), seen)
            score = code.select(visible, code.get(FLOATS, scores, part, REGISTER), constant(code, HIDDEN))
            code.put(score, scores, part, REGISTER)
            return [code.vector("maxnum", most, score)]

        (most,) = code.each(self.together // LANES, find, before)
        most = code.spread(code.across("fmax", most))
        factor = power_of_two(code, code.fsub(before, most))

        def share_of(part: Any, total: Any) -> Sequence[Any]:
            share = power_of_two(code, code.fsub(code.get(FLOATS, scores, part, REGISTER), most))
            self._put(share, code.place(self.shares, row, self._row_bytes(self.together)), part)
            return [code.fadd(total, share)]

        total = code.fmul(code.get(FLOATS, shares, row, REGISTER), factor)
        (total,) = code.each(self.together // LANES, share_of, total)
        for value, room in ((most, largest), (factor, self.factors), (total, shares)):
            code.put(value, room, row, REGISTER)
        return []

    def tell(self, group: Any, block: Any) -> Sequence[Any]:
        """What the rows have seen, each where it belongs."""
        code, size, fields = self.code, self.size, self.fields
        _, _, shares, sums = self._room(group, block)
        (y,) = code.pointers(fields, "y")

        def row(number: Any) -> Sequence[Any]:
            head, count = self._row(group, block, number)
            target = code.place(y, code.add(code.mul(count, fields["heads"]), head), 4 * size)
            total = code.get(FLOATS, shares, number, REGISTER)
            total = code.spread(code.across("fadd", F32(0.0), total))

            def write(part: Any) -> Sequence[Any]:
                seen = code.get(FLOATS, code.place(sums, number, 4 * size), part, REGISTER)
                code.put(code.fdiv(seen, total), target, part, REGISTER)
                return []

            return code.each(size // LANES, write)

        return code.each(self.block_rows, row)
