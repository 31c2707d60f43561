"""Memory for weights and caches: taken in large pages, given back at once, explained where there is too little."""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from audio_interaction_cli.errors import OutOfMemoryError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h

POSITIONS_TOGETHER = 128  # of a conversation's cache are read at once: as many as stay in a processor's second cache
FEWER_TOGETHER = 64


def room_for_positions(positions: int) -> int:
    """How many a cache needs room for, that whole reads stay inside."""
    together = POSITIONS_TOGETHER if positions > FEWER_TOGETHER else FEWER_TOGETHER
    return -(-positions // together) * together


def in_large_pages(size_bytes: int) -> torch.Tensor:
    """uint8 [size_bytes], uninitialised, where Linux gives large pages to those who ask; MemoryError.

    With small ones a processor that reads gigabytes in a row looks up where each 4 kB lie.
    """
    try:
        room = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from error
    with suppress(OSError):  # a kernel without them
        room.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(room, dtype=torch.uint8)


@contextmanager
def returning_memory() -> Iterator[None]:
    """Whatever large is freed inside goes back to the system at once, where the C library can be told so.

    Else glibc keeps the room of weights that were packed, in pieces: of the full model's up to half as much again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(MMAP_THRESHOLD, 1 << 20)
    try:
        yield
    finally:
        if mallopt:  # where glibc's own rule ends: a step's temporaries must not come from the system each time
            mallopt(MMAP_THRESHOLD, 1 << 25)
            mallopt(TRIM_THRESHOLD, 1 << 26)


@contextmanager
def enough_memory(needed_bytes: int, device: torch.device) -> Iterator[None]:
    """Explain, as an OutOfMemoryError, that what is allocated inside does not fit."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not OutOfMemoryError.means(error):
            raise
        raise OutOfMemoryError(f" on {device}: {needed_bytes / 1e9:.1f} GB are needed") from error
