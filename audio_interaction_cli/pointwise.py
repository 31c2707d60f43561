"""What is computed between products, number by number or row by row: code that `machine` compiles. All is float32."""

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from audio_interaction_cli.machine import F32, FLOATS, I32, I64, INTS, LANES, PTR, REGISTER, Code, Tape

LEAST = -127.0  # an exponent of two which is nothing
FRACTION_BITS = 23  # of float32
NORM = ("x", "y", "weight", "bias", "rows", "channels", "epsilon")
EACH = ("x", "other", "count")

Values = Callable[..., Any]


def normalise(tape: Tape, norm: nn.RMSNorm | nn.LayerNorm, x: torch.Tensor, rows: int, y: torch.Tensor) -> None:
    """Rows of x [rows or more, channels], normalised, into those of y; channels are a multiple of 64."""
    centred = isinstance(norm, nn.LayerNorm)
    weight = norm.weight.detach().float()
    bias = norm.bias.detach().float() if isinstance(norm, nn.LayerNorm) else weight
    epsilon = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
    (bits,) = (ctypes.c_int32.from_buffer(ctypes.c_float(epsilon)),)
    numbers = x.data_ptr(), y.data_ptr(), weight.data_ptr(), bias.data_ptr(), rows, x.shape[1], bits.value
    tape.add(_norm(centred), numbers, x, y, weight, bias)


def gate(tape: Tape, x: torch.Tensor, other: torch.Tensor) -> None:
    """SiLU of x times the other, into x; as many numbers each, a multiple of 64."""
    tape.add(_each("gate"), [x.data_ptr(), other.data_ptr(), x.numel()], x, other)


def gelu(tape: Tape, x: torch.Tensor) -> None:
    """GELU of x, by the error function, into x; a multiple of 64 numbers."""
    tape.add(_each("gelu"), [x.data_ptr(), 0, x.numel()], x)


def constant(code: Code, value: float) -> Any:
    """In all lanes; rounded to float32, as LLVM wants it."""
    return code.spread(F32(ctypes.c_float(value).value))


def polynomial(code: Code, x: Any, factors: Sequence[float]) -> Any:
    """Factors of x to the power of 0, 1 and so on."""
    *rest, y = [constant(code, factor) for factor in factors]
    for factor in reversed(rest):
        y = code.vector("fma", y, x, factor)
    return y


def power_of_two(code: Code, x: Any) -> Any:
    """2 to the power of x <= 0, to within 3e-6 of itself or 1e-38: Taylor's polynomial, up to half a unit off."""
    x = code.vector("maxnum", x, constant(code, LEAST))
    whole = code.vector("roundeven", x)
    power = polynomial(code, code.fsub(x, whole), [math.log(2) ** n / math.factorial(n) for n in range(7)])
    exponent = code.shl(code.fptosi(whole, INTS), code.spread(I32(FRACTION_BITS)))
    return code.bitcast(code.add(code.bitcast(power, INTS), exponent), FLOATS)


def _gate(code: Code, x: Any, other: Any) -> Any:
    """x / (1 + exp(-x)) * other, by the exponential of what is negative."""
    one, size = constant(code, 1.0), code.vector("fabs", x)
    power = power_of_two(code, code.fmul(size, constant(code, -1 / math.log(2))))
    upper = code.select(code.fcmp_ordered(">=", x, constant(code, 0.0)), one, power)
    return code.fmul(code.fdiv(code.fmul(x, upper), code.fadd(one, power)), other)


# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erf to within 1.5e-7.
ERF_P = 0.3275911
ERF = (0.0, 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def _gelu(code: Code, x: Any, _other: Any) -> Any:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    one, size = constant(code, 1.0), code.vector("fabs", x)
    scaled = code.fmul(size, constant(code, math.sqrt(0.5)))
    t = code.fdiv(one, code.vector("fma", scaled, constant(code, ERF_P), one))
    bell = power_of_two(code, code.fmul(code.fmul(scaled, scaled), constant(code, -1 / math.log(2))))
    tail = code.fmul(code.fmul(polynomial(code, t, ERF), bell), constant(code, 0.5))  # of the normal distribution
    share = code.select(code.fcmp_ordered(">=", x, constant(code, 0.0)), code.fsub(one, tail), tail)
    return code.fmul(x, share)


@cache
def _each(what: str) -> str:
    """Name of (arguments, thread, threads): its share of the numbers."""
    code = Code(what, PTR, I64, I64)
    fields = code.fields(EACH, code.function.args[0])
    x, other = code.pointers(fields, "x", "other")
    first, last = code.share(code.udiv(fields["count"], I64(LANES)))

    def part(number: Any) -> Sequence[Any]:
        value = code.get(FLOATS, x, number, REGISTER)
        if what == "gate":
            value = _gate(code, value, code.get(FLOATS, other, number, REGISTER))
        else:
            value = _gelu(code, value, None)
        code.put(value, x, number, REGISTER)
        return []

    with code.if_then(code.icmp_unsigned("<", first, last)):
        code.loop(first, last, I64(1), part)
    return code.compiled()


@cache
def _norm(centred: bool) -> str:
    """Name of (arguments, thread, threads): its share of the rows."""
    code = Code(f"norm_{'layer' if centred else 'rms'}", PTR, I64, I64)
    fields = code.fields(NORM, code.function.args[0])
    x, y, weight, bias = code.pointers(fields, "x", "y", "weight", "bias")
    parts = code.udiv(fields["channels"], I64(LANES))
    channels = code.uitofp(fields["channels"], F32)
    epsilon = code.bitcast(code.trunc(fields["epsilon"], I32), F32)

    def row(number: Any) -> Sequence[Any]:
        start = code.mul(code.mul(number, fields["channels"]), I64(4))
        source, target = code.place(x, start), code.place(y, start)

        def mean(values: Values) -> Any:
            def add(part: Any, total: Any) -> Sequence[Any]:
                return [values(code.get(FLOATS, source, part, REGISTER), total)]

            (total,) = code.loop(I64(0), parts, I64(1), add, FLOATS(None))
            return code.fdiv(code.across("fadd", F32(-0.0), total), channels)

        middle = code.spread(mean(code.fadd)) if centred else FLOATS(None)

        def square(value: Any, total: Any) -> Any:
            away = code.fsub(value, middle)
            return code.vector("fma", away, away, total)

        deviation = code.invoke("llvm.sqrt.f32", F32, code.fadd(mean(square), epsilon))
        scale = code.spread(code.fdiv(F32(1.0), deviation))

        def write(part: Any) -> Sequence[Any]:
            value = code.fmul(code.fsub(code.get(FLOATS, source, part, REGISTER), middle), scale)
            factor = code.get(FLOATS, weight, part, REGISTER)
            level = code.get(FLOATS, bias, part, REGISTER) if centred else FLOATS(None)
            code.put(code.vector("fma", value, factor, level), target, part, REGISTER)
            return []

        code.loop(I64(0), parts, I64(1), write)
        return []

    code.shared(fields["rows"], row)
    return code.compiled()
