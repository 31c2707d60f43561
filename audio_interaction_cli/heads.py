"""Heads of positions: new ones rotated and written into a cache, and read from there. Code that `machine` compiles.

What `flash` computes, which holds the rest of it, is given by the numbers of `FIELDS`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir

from audio_interaction_cli.forms import HALF_BITS, HALVES, to_bfloat16
from audio_interaction_cli.machine import FLOATS, I32, I64, INTS, LANES, PTR, REGISTER, Code

FIELDS = (
    "x", "cos", "sin", "keys", "values", "y", "start",
    "count", "heads", "groups", "x_row", "key_group", "key_channel", "value_group", "value_position",  # in bytes
    "causal", "rows", "blocks",  # of a group
    "queries", "largest", "shares", "sums",  # room for what is known of each row
)  # fmt: skip


def fields_of(code: Code) -> dict[str, Any]:
    fields = code.fields(FIELDS, code.function.args[0])
    fields["start"] = code.load(code.pointers(fields, "start")[0], typ=I64)
    return fields


def _head_of(code: Code, fields: dict[str, Any], size: int, head: Any, count: Any) -> Any:
    """Where a head of one new position lies."""
    (x,) = code.pointers(fields, "x")
    return code.place(code.place(x, code.mul(count, fields["x_row"])), head, 4 * size)


def rotated(
    code: Code, fields: dict[str, Any], size: int, head: Any, count: Any, write: Callable[[Any, Any], None]
) -> None:
    """The same, rotated: each of its registers, by number, is given to `write`."""
    cos, sin = (code.place(of_all, count, 4 * size) for of_all in code.pointers(fields, "cos", "sin"))
    source, half = _head_of(code, fields, size, head, count), size // LANES // 2

    def pair(number: Any) -> Sequence[Any]:
        parts = number, code.add(number, I64(half))
        values = [code.get(FLOATS, source, part, REGISTER) for part in parts]
        for part, value, other in zip(parts, values, reversed(values), strict=True):
            turned = code.fmul(value, code.get(FLOATS, cos, part, REGISTER))
            write(part, code.vector("fma", other, code.get(FLOATS, sin, part, REGISTER), turned))
        return []

    code.each(half, pair)


def put_halves(code: Code, value: Any, base: Any, number: Any) -> None:
    code.store(to_bfloat16(code, value), code.place(base, number, REGISTER // 2), align=2)


def begin(code: Code, fields: dict[str, Any], group: Any, position: Any) -> tuple[Any, Any]:
    """Where a position's key and value lie in the cache."""
    keys, values = code.pointers(fields, "keys", "values")
    key = code.place(code.place(keys, code.mul(group, fields["key_group"])), position, 2)
    value = code.place(values, code.mul(group, fields["value_group"]))
    return key, code.place(value, code.mul(position, fields["value_position"]))


@cache
def remember(size: int) -> str:
    """Name of (arguments, thread, threads): its share of the new keys and values, written into the cache."""
    code = Code(f"remember_{size}", PTR, I64, I64)
    fields = fields_of(code)

    def write(number: Any) -> Sequence[Any]:
        group, count = code.udiv(number, fields["count"]), code.urem(number, fields["count"])
        position = code.add(fields["start"], count)
        key, value = begin(code, fields, group, position)
        head = code.add(fields["heads"], group)

        def write_key(part: Any, turned: Any) -> None:
            halves = to_bfloat16(code, turned)
            for lane in range(LANES):
                channel = code.add(code.mul(part, I64(LANES)), I64(lane))
                place = code.place(key, code.mul(channel, fields["key_channel"]))
                code.store(code.extract_element(halves, I32(lane)), place, align=2)

        def write_value(part: Any) -> Sequence[Any]:
            put_halves(code, code.get(FLOATS, given, part, REGISTER), value, part)
            return []

        rotated(code, fields, size, head, count, write_key)
        given = _head_of(code, fields, size, code.add(head, fields["groups"]), count)
        return code.each(size // LANES, write_value)

    first, last = code.share(code.mul(fields["groups"], fields["count"]))  # for neighbours lie in one cache line
    with code.if_then(code.icmp_unsigned("<", first, last)):
        code.loop(first, last, I64(1), write)
    return code.compiled()


def places_of(code: Code, part: Any) -> Any:
    """The numbers of a register's lanes among all in a row."""
    lanes = ir.Constant(INTS, list(range(LANES)))
    return code.add(lanes, code.spread(code.mul(code.trunc(part, I32), I32(LANES))))


class Some:
    """So many positions of a cache, `together`, of which `left` are to be seen; the others are read as zeros."""

    def __init__(self, code: Code, fields: dict[str, Any], size: int, together: int, left: Any) -> None:
        self.code, self.fields, self.size, self.together = code, fields, size, together
        self.end = code.spread(code.trunc(left, I32))

    def read_keys(self, key: Any, target: Any) -> None:
        """Into panels of positions, a step for two channels."""

        def seen(part: Any, _number: Any) -> Any:
            return self.code.icmp_signed("<", places_of(self.code, part), self.end)

        self._read(key, "key_channel", self.size, self.together, seen, target)

    def read_values(self, value: Any, target: Any) -> None:
        """Into panels of channels, a step for two positions."""

        def seen(_part: Any, number: Any) -> Any:
            return self.code.icmp_signed("<", self.code.spread(self.code.trunc(number, I32)), self.end)

        self._read(value, "value_position", self.together, self.size, seen, target)

    def _read(self, source: Any, row: str, rows: int, width: int, seen: Callable[[Any, Any], Any], target: Any) -> None:
        """So many rows, two and two, their numbers side by side in 32 bits."""
        code = self.code

        def pair(number: Any) -> Sequence[Any]:
            numbers = [code.add(code.mul(number, I64(2)), I64(n)) for n in range(2)]
            starts = [code.place(source, code.mul(n, self.fields[row])) for n in numbers]

            def part(part: Any) -> Sequence[Any]:
                halves = [code.load(code.place(start, part, REGISTER // 2), typ=HALVES, align=2) for start in starts]
                lower, upper = (
                    code.select(seen(part, n), code.zext(half, INTS), INTS(None))
                    for n, half in zip(numbers, halves, strict=True)
                )
                both = code.or_(lower, code.shl(upper, code.spread(I32(HALF_BITS))))
                code.put(both, target, code.add(number, code.mul(part, I64(rows // 2))), REGISTER)
                return []

            return code.each(width // LANES, part)

        code.each(rows // 2, pair)
