"""A store in parts, made by several processes. Knows nothing of what is in them."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], object]


def make(
    work: Callable[..., None],
    calls: Sequence[tuple[Any, ...]],
    workers: int,
    progress: Progress,
    begin: Callable[[], None] | None = None,
) -> None:
    """Do all calls of `work`; the first that fails, or an interruption, ends it as soon as those begun are done."""
    with ProcessPoolExecutor(workers, initializer=begin) as pool:
        jobs = [pool.submit(work, *call) for call in calls]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                progress(done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def finish(index: Path, rows: object) -> None:
    """Write the index of a part, which says that it is whole; never half of it."""
    partial = index.with_suffix(".partial")
    partial.write_text(json.dumps(rows))
    partial.replace(index)
