"""Brings a checkpoint's tensors into a module: checked by name and shape first, then read in one pass.

The module's parameters are the only copy. Files are memory-mapped and unmapped again tensor by tensor, so
that at most a few mapped tensors are resident beside the parameters, whatever dtype the file has.
"""

import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from warnings import catch_warnings

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from audio_interaction_cli.checkpoint import TensorHeader, headers
from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.tables import damaged

Progress = Callable[[int, int], None]
"""Called with bytes in memory so far and in all."""
Finished = Callable[[str], object]
"""Called with a parameter's name once it is filled; may free it."""
READ_AHEAD = 8  # parameters
OtherName = Callable[[str], tuple[str, torch.Tensor] | None]
"""A parameter's other name in a file, and the row order that brings it into the module's."""


def allocate(module: nn.Module, name: str, device: torch.device) -> torch.Tensor:
    """Give a parameter of a module made on the meta device its memory, uninitialised.

    One by one, as they are filled: what `Finished` frees of one is then there for the next.
    """
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    of_meta = getattr(owner, leaf)
    # Not `empty_like`, which for a meta tensor imports a compiler.
    tensor = torch.empty(of_meta.shape, dtype=of_meta.dtype, device=device)
    setattr(owner, leaf, nn.Parameter(tensor, requires_grad=False))
    return tensor


def size_bytes(module: nn.Module) -> int:
    """What the module's parameters take in memory."""
    return sum(parameter.nbytes for parameter in module.parameters())


def load_safetensors(
    module: nn.Module,
    device: torch.device,
    tensors: Mapping[str, TensorHeader],
    progress: Progress,
    other_name: OtherName = lambda _: None,
    finished: Finished = lambda _: None,
) -> None:
    """Fill `module`, made on the meta device, from the files that hold `tensors`.

    CheckpointError if they are not what it needs. Use it inside of `enough_memory`.
    """
    plan = check_headers(module, tensors, other_name)
    sizes = {name: parameter.nbytes for name, parameter in module.state_dict().items()}
    total = sum(sizes.values())
    parameters: dict[str, torch.Tensor] = {}  # being read

    def read(name: str) -> str:
        source, rows = plan[name]
        file = tensors[source].file
        try:
            with safe_open(file, framework="pt") as opened:
                tensor = opened.get_tensor(source)
                parameters[name].copy_(tensor if rows is None else tensor[rows])
        except (SafetensorError, OSError) as error:
            raise damaged(file, error) from error
        return name

    done = 0
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1) if device.type == "cpu" else 1)
    try:
        largest_first = sorted(sizes, key=sizes.__getitem__, reverse=True)
        for start in range(0, len(sizes), READ_AHEAD):
            batch = largest_first[start : start + READ_AHEAD]
            parameters |= {name: allocate(module, name, device) for name in batch}
            for name in pool.map(read, batch):
                del parameters[name]
                finished(name)  # in this thread, whose freed memory is not another's
                done += sizes[name]
                progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption does not wait for the rest


def check_headers(
    module: nn.Module, tensors: Mapping[str, TensorHeader], other_name: OtherName = lambda _: None
) -> dict[str, tuple[str, torch.Tensor | None]]:
    """Where each parameter of `module` is found, and the row order that it needs; reads no weights.

    CheckpointError if the tensors are not what the module needs.
    """
    plan: dict[str, tuple[str, torch.Tensor | None]] = {}
    for name in module.state_dict():
        other = other_name(name)
        plan[name] = other if other and name not in tensors and other[0] in tensors else (name, None)
    sources = {source for source, _ in plan.values()}
    shapes = {name: tensors[source].shape for name, (source, _) in plan.items() if source in tensors}
    _check(module, shapes, strangers=sorted(tensors.keys() - sources))
    whole = {plan[name][0] for name, parameter in module.state_dict().items() if not parameter.is_floating_point()}
    for name, header in tensors.items():
        if header.dtype != "I8" if name in whole else not header.dtype.startswith(("F", "BF")):
            raise _not_floating(name, header.dtype)
    return plan


def load_tower(
    module: nn.Module,
    device: torch.device,
    file: Path,
    ignored: tuple[str, ...],
    progress: Progress,
    finished: Finished = lambda _: None,
) -> None:
    """As `load_safetensors`, from one file: safetensors or a pickled state dict of nothing but tensors."""
    if file.suffix == ".safetensors":
        kept = {name: header for name, header in headers(file).items() if not name.startswith(ignored)}
        return load_safetensors(module, device, kept, progress, finished=finished)
    state = {name: tensor for name, tensor in _unpickled(file).items() if not name.startswith(ignored)}
    needed = list(module.state_dict())
    shapes = {name: tuple(state[name].shape) for name in needed if name in state}
    _check(module, shapes, strangers=sorted(state.keys() - {*needed}))
    total = size_bytes(module)
    done = 0
    for name in needed:
        parameter = allocate(module, name, device)
        parameter.copy_(state[name])
        done += parameter.nbytes
        progress(done, total)
        finished(name)
    return None


def _unpickled(file: Path) -> Mapping[str, torch.Tensor]:
    """A pickle is read with `weights_only`: what would run code is refused, never run."""
    try:
        with file.open("rb") as opened:
            in_old_format = opened.read(1) == pickle.PROTO  # not a zip archive, so it cannot be mapped
        with catch_warnings(action="ignore"):  # torch muses about odd pickles before it refuses them
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=not in_old_format)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file.name} holds more than tensors and was not opened: it could run code",
            "do not use this file; take the checkpoint from its authors",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise damaged(file, error) from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{file.name} is not a state dict: names and their tensors")
    for name, tensor in state.items():
        if not (isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided):
            raise CheckpointError(f"{file.name} is not a state dict: names and their tensors")
        if not tensor.is_floating_point():
            raise _not_floating(name, str(tensor.dtype))
    return state


def _not_floating(name: str, dtype: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint's {name} is {dtype}, not floating-point",
        "whole numbers are read only from what ai-cli convert wrote",
    )


def _check(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], strangers: list[str]) -> None:
    """Compare what is there with what the module needs, before any memory is taken."""
    needed = {name: tuple(parameter.shape) for name, parameter in module.state_dict().items()}
    missing = sorted(needed.keys() - shapes.keys())
    if missing:
        found = f"; it has {_some(strangers)} instead" if strangers else ""
        raise CheckpointError(f"the checkpoint lacks {_some(missing)}{found}", "it is incomplete or of another model")
    wrong = [name for name in needed if needed[name] != shapes[name]]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"the checkpoint's {name} has shape {list(shapes[name])}, its configuration says {list(needed[name])}",
            "configuration and weights are not of the same model",
        )
    if strangers:
        raise CheckpointError(
            f"the checkpoint holds {_some(strangers)}, which this model has no place for",
            "it is of another model",
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
