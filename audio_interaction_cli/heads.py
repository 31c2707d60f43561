"""Heads of new positions, rotated and written into a cache: code that `machine` compiles. Knows numbers only.

What `flash` computes, which holds the rest of it, is given by the numbers of `FIELDS`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from audio_interaction_cli.forms import to_bfloat16
from audio_interaction_cli.machine import FLOATS, I32, I64, LANES, PTR, REGISTER, Code

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


def _head_of(code: Code, fields: dict[str, Any], size: int, head: Any, count: Any) -> list[Any]:
    """Registers of a head of one new position."""
    (x,) = code.pointers(fields, "x")
    row = code.place(code.place(x, code.mul(count, fields["x_row"])), head, 4 * size)
    return [code.get(FLOATS, row, I64(part), REGISTER) for part in range(size // LANES)]


def rotated(code: Code, fields: dict[str, Any], size: int, head: Any, count: Any) -> list[Any]:
    """The same, rotated."""
    cos, sin = (code.place(of_all, count, 4 * size) for of_all in code.pointers(fields, "cos", "sin"))
    values = _head_of(code, fields, size, head, count)
    others = values[len(values) // 2 :] + values[: len(values) // 2]
    return [
        code.vector(
            "fma",
            other,
            code.get(FLOATS, sin, I64(n), REGISTER),
            code.fmul(value, code.get(FLOATS, cos, I64(n), REGISTER)),
        )
        for n, (value, other) in enumerate(zip(values, others, strict=True))
    ]


def put_halves(code: Code, value: Any, base: Any, number: int) -> None:
    code.store(to_bfloat16(code, value), code.place(base, I64(number), REGISTER // 2), align=2)


@cache
def remember(size: int) -> str:
    """Name of (arguments, thread, threads): its share of the new keys and values, written into the cache."""
    code = Code(f"remember_{size}", PTR, I64, I64)
    fields = fields_of(code)
    keys, values = code.pointers(fields, "keys", "values")

    def write(number: Any) -> Sequence[Any]:
        group, count = code.udiv(number, fields["count"]), code.urem(number, fields["count"])
        position = code.add(fields["start"], count)
        key = code.place(code.place(keys, code.mul(group, fields["key_group"])), position, 2)
        value = code.place(values, code.mul(group, fields["value_group"]))
        value = code.place(value, code.mul(position, fields["value_position"]))
        head = code.add(fields["heads"], group)
        for part, turned in enumerate(rotated(code, fields, size, head, count)):
            halves = to_bfloat16(code, turned)
            for lane in range(LANES):
                channel = code.mul(I64(part * LANES + lane), fields["key_channel"])
                code.store(code.extract_element(halves, I32(lane)), code.place(key, channel), align=2)
        for part, given in enumerate(_head_of(code, fields, size, code.add(head, fields["groups"]), count)):
            put_halves(code, given, value, part)
        return []

    first, last = code.share(code.mul(fields["groups"], fields["count"]))  # for neighbours lie in one cache line
    with code.if_then(code.icmp_unsigned("<", first, last)):
        code.loop(first, last, I64(1), write)
    return code.compiled()
