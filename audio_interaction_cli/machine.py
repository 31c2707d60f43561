"""Writes machine code: functions in LLVM's intermediate language, which llvmlite compiles for this processor.

Knows registers and loops, and what array of 64-bit numbers those functions are given: the fields of `JOB`, then those
of `LAYER` for each matrix. What they compute is in `rounding` and `kernels`.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from llvmlite import binding, ir

LANES = 16 if "512" in torch.backends.cpu.get_cpu_capability() else 8  # 32-bit numbers in a register
REGISTER = 4 * LANES  # bytes

JOB = (
    "x", "rows", "channels", "block_rows", "mixing", "scratch", "rounded",  # inputs, and what rotates them
    "prepared", "row_scales", "row_sums", "blocks", "block_bytes",  # inputs as they are multiplied
    "layers",
)  # fmt: skip
LAYER = (  # rows in bytes, from one to the next
    "panels", "bias", "scales", "onto", "onto_row", "y", "y_row", "outputs",
    "taken", "finished",  # of its outputs, and by so many threads; zeros between steps
)  # fmt: skip
PIECES = 16  # of a thread's share: as one is taken after the other, a thread that is held up holds up no other

I8, I32, I64, F32, PTR = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.PointerType()
FLOATS, INTS, VOID = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES), ir.VoidType()


class Code(ir.IRBuilder):  # type: ignore[misc]
    """A function being written."""

    def __init__(self, name: str, *arguments: ir.Type, module: ir.Module | None = None) -> None:
        made = ir.Function(module or ir.Module(), ir.FunctionType(VOID, arguments), name)
        super().__init__(made.append_basic_block())

    def loop(
        self, start: Any, stop: Any, step: Any, body: Callable[..., Sequence[Any]], *carried: Any
    ) -> Sequence[Any]:
        """`body` with each number and what it gave for the number before, at first `carried`; at least once."""
        before, inside, after = self.block, self.append_basic_block(), self.append_basic_block()
        self.branch(inside)
        self.position_at_end(inside)
        number, *values = phis = [self.phi(value.type) for value in (start, *carried)]
        given = body(number, *values)
        following = self.add(number, step)
        for phi, first, later in zip(phis, (start, *carried), (following, *given), strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, self.block)
        self.cbranch(self.icmp_unsigned("<", following, stop), inside, after)
        self.position_at_end(after)
        return given

    def each(self, count: int, body: Callable[..., Sequence[Any]], *carried: Any) -> Sequence[Any]:
        """`loop` over the numbers below that, which is known now; not written out, for that takes long to compile."""
        return self.loop(I64(0), I64(count), I64(1), body, *carried)

    def invoke(self, name: str, result: ir.Type, *arguments: Any) -> Any:
        """A function from elsewhere, or one of LLVM's own."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.call(self.module.globals.get(name) or ir.Function(self.module, kind, name), arguments)

    def vector(self, name: str, *registers: Any) -> Any:
        """One of LLVM's functions of registers of float32, lane by lane."""
        return self.invoke(f"llvm.{name}.v{LANES}f32", FLOATS, *registers)

    def across(self, name: str, *values: Any) -> Any:
        """One of LLVM's that make one number of a register's."""
        kind = values[-1].type
        return self.invoke(
            f"llvm.vector.reduce.{name}.v{LANES}{'i32' if kind == INTS else 'f32'}", kind.element, *values
        )

    def place(self, base: Any, index: Any, size: int = 1) -> Any:
        """The address of a thing of so many bytes."""
        return self.gep(base, [self.mul(index, I64(size)) if size > 1 else index], source_etype=I8)

    def fields(self, names: Sequence[str], of: Any) -> dict[str, Any]:
        """Numbers of a job or a layer."""
        return {name: self.load(self.place(of, I64(8 * i)), typ=I64) for i, name in enumerate(names)}

    def fetch(self, place: Any) -> None:
        """Bring what will be read from there into the caches; nothing where there is no such memory."""
        for_reading, again_and_again, as_data = I32(0), I32(3), I32(1)
        self.invoke("llvm.prefetch.p0", VOID, place, for_reading, again_and_again, as_data)

    def spread(self, value: Any) -> Any:
        """One number in all lanes."""
        kind = ir.VectorType(value.type, LANES)
        return self.shuffle_vector(
            self.insert_element(kind(ir.Undefined), value, I32(0)), kind(ir.Undefined), INTS(None)
        )

    def get(self, kind: ir.Type, base: Any, index: Any, size: int) -> Any:
        return self.load(self.place(base, index, size), typ=kind, align=4)

    def put(self, value: Any, base: Any, index: Any, size: int) -> None:
        self.store(value, self.place(base, index, size), align=4)

    def pointers(self, fields: dict[str, Any], *names: str) -> list[Any]:
        return [self.inttoptr(fields[name], PTR) for name in names]

    def shared(self, todo: Any, work: Callable[[Any], Sequence[Any]]) -> None:
        """A thread's share of so many tasks, in a function of (anything, thread, threads): every so manieth."""
        _, thread, threads = self.function.args
        with self.if_then(self.icmp_unsigned("<", thread, todo)):
            self.loop(thread, todo, threads, work)

    def take(self, counters: Any, todo: Any, work: Callable[[Any], Sequence[Any]]) -> None:
        """The same, but some at a time by whoever is free. `counters` are two numbers, zeros before and after."""
        *_, threads = self.function.args
        piece = self.udiv(todo, self.mul(threads, I64(PIECES)))
        piece = self.select(self.icmp_unsigned(">", piece, I64(0)), piece, I64(1))
        again, inside, after = (self.append_basic_block() for _ in range(3))
        self.branch(again)
        self.position_at_end(again)
        first = self.atomic_rmw("add", counters, piece, "monotonic")
        self.cbranch(self.icmp_unsigned("<", first, todo), inside, after)
        self.position_at_end(inside)
        behind = self.add(first, piece)
        behind = self.select(self.icmp_unsigned("<", behind, todo), behind, todo)
        self.loop(first, behind, I64(1), work)
        self.branch(again)
        self.position_at_end(after)
        before = self.atomic_rmw("add", self.place(counters, I64(1), 8), I64(1), "monotonic")
        with self.if_then(self.icmp_unsigned("==", before, self.sub(threads, I64(1)))):  # no other looks at them now
            for n in range(2):
                self.store(I64(0), self.place(counters, I64(n), 8))

    def share(self, todo: Any) -> tuple[Any, Any]:
        """The same, side by side: the first and what is behind the last, which may be none."""
        _, thread, threads = self.function.args
        first, last = (self.udiv(self.mul(todo, t), threads) for t in (thread, self.add(thread, I64(1))))
        return first, last

    def compiled(self) -> str:
        """Its name, by which other code can call it from now on."""
        self.ret_void()
        _engine().add_module(binding.parse_assembly(str(self.module)))
        _engine().finalize_object()
        return str(self.function.name)


class Tape:
    """Compiled functions of (arguments, thread, threads), each begun when all threads have ended the one before.

    The threads are those of torch's own OpenMP pool, with which a second pool would fight for the cores.
    """

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self._steps: list[int] = []
        self._kept: list[object] = []

    def add(self, name: str, arguments: Sequence[int], *kept: object) -> None:
        """A function with what it is given, and what must live as long as its addresses."""
        given = (ctypes.c_int64 * len(arguments))(*arguments)
        self._kept += given, kept
        self._steps += _address(name), ctypes.addressof(given)

    def player(self, first: int = 0) -> Callable[[], object]:
        """What computes all steps from that one on; a negative number counts from the end."""
        steps = self._steps[2 * first :]
        given = (ctypes.c_int64 * (1 + len(steps)))(len(steps) // 2, *steps)
        self._kept.append(given)
        play, address = _play(), ctypes.addressof(given)
        return lambda: play(address, self.threads)  # which keeps all that the tape keeps


@cache
def _address(name: str) -> int:
    found: int = _engine().get_function_address(name)
    return found


@cache
def _play() -> Callable[[int, int], None]:
    """(address of steps, threads): done when it returns."""
    work = Code("work", PTR)
    (tape,) = work.function.args
    thread, threads = (work.zext(work.invoke(f"omp_get_{what}", I32), I64) for what in ("thread_num", "num_threads"))
    kind = ir.FunctionType(VOID, [PTR, I64, I64])

    def step(number: Any) -> Sequence[Any]:
        fields = work.fields(("function", "arguments"), work.place(tape, work.add(work.mul(number, I64(2)), I64(1)), 8))
        function = work.inttoptr(fields["function"], kind.as_pointer())
        work.call(function, [*work.pointers(fields, "arguments"), thread, threads])
        work.invoke("GOMP_barrier", VOID)
        return []

    work.loop(I64(0), work.fields(("steps",), tape)["steps"], I64(1), step)
    work.ret_void()
    begin = Code("play", PTR, I32, module=work.module)
    begin.invoke("GOMP_parallel", VOID, work.function, *begin.function.args, I32(0))
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(_address(begin.compiled()))


@cache
def _engine() -> binding.ExecutionEngine:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    cpu, features = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    machine = binding.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=2)
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine, use_lmm=True)
