"""Training, driven by the clock: it fits whatever time it is given, and goes on where it was stopped.

First the tower alone learns to tell phonemes and sounds apart, on speech without pauses, for which the synthesisers
give the labels; then the language model finds something to read and learns at once. Weights that are there already can
be trained further, at a lower rate.
"""

import math
import statistics
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from batches import BALANCED, EAGER, Batches
from learner import Batch, MixedPrecision, Network
from vocabulary import open_tokenizer

SCENES_A_BATCH = 8
SAVED_EVERY_STEPS = 100
TOLD_EVERY_STEPS = 50
LAST_RATE = 0.02
MUON_RATE, ADAM_RATE = 3e-3, 1.8e-3
WARM_UP_STEPS = 40
CLIP = 1.0
KEPT = 0.4  # of the weights that further training began with


class Course(NamedTuple):
    """How training goes; places in it are shares of its time."""

    file: str
    tower_alone: float
    balanced_from: float
    """Before, missing an answer costs far more than giving one too many."""
    falls_from: float
    first_rate: float
    """Held until `falls_from`, falling to `LAST_RATE` by the end."""

    def rate(self, done: float) -> float:
        """The rate of learning after `done` of the time."""
        falls = max(0.0, done - self.falls_from) / (1.0 - self.falls_from)
        return max(LAST_RATE, self.first_rate + (LAST_RATE - self.first_rate) * falls)


FROM_NOTHING = Course("training.pt", tower_alone=0.15, balanced_from=0.55, falls_from=0.35, first_rate=1.0)
FURTHER = Course("further.pt", tower_alone=0.0, balanced_from=0.0, falls_from=0.0, first_rate=0.35)


def train(folder: Path, course: Course, minutes: float, seed: int, device: torch.device, console: Console) -> None:
    """Train on the shards in `folder` with `folder`/vocabulary; what comes of it is in `trained`.

    FileExistsError where it would change the weights that further training began with.
    """
    torch.manual_seed(seed)
    replicas = 1 if device.type == "cuda" else min(SCENES_A_BATCH, torch.get_num_threads())
    if replicas > 1:
        torch.set_num_threads(1)  # a thread for each network instead
    state = _State(folder / course.file, device, replicas)
    further = folder / FURTHER.file
    if course is FURTHER and not state.steps:
        state.take(trained(folder))
    elif course is not FURTHER and further.exists() and state.seconds < 60 * minutes:
        raise FileExistsError(f"{further} began with weights that this would change: move it away first")
    learners = [
        _Learner(folder, course, network, device, replicas, seed + state.steps + n)
        for n, network in enumerate(state.precision.networks)
    ]
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar, ThreadPoolExecutor(replicas) as threads:
        task = bar.add_task("", total=1.0, told="")
        while (done := state.seconds / (60 * minutes)) < 1:
            began = time.perf_counter()
            state.update(course.rate(done), list(threads.map(lambda learner: learner.learn(done), learners)))
            state.seconds += time.perf_counter() - began
            bar.update(task, completed=done, told=f"step {state.steps}")
            if state.steps % TOLD_EVERY_STEPS == 0:
                console.print(f"{state.seconds / 60:5.1f} min  step {state.steps:5}  {state.report()}")
            if state.steps % SAVED_EVERY_STEPS == 0:
                state.save()
    state.save()


def trained(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that came of training in `folder`.

    Where it was trained further, the mean with those it began with: the two err differently.
    """
    weights, *further = (
        torch.load(folder / course.file, map_location="cpu", weights_only=True)["weights"]
        for course in (FROM_NOTHING, FURTHER)
        if (folder / course.file).exists()
    )
    return {name: weight.lerp(further[0][name], 1.0 - KEPT) if further else weight for name, weight in weights.items()}


class _Learner:
    """One network and its share of every batch."""

    def __init__(
        self, folder: Path, course: Course, network: Network, device: torch.device, replicas: int, seed: int
    ) -> None:
        self._course = course
        self._network = network
        self._device = device
        tokenizer, scenes = open_tokenizer(folder / "vocabulary"), SCENES_A_BATCH // replicas
        self._speech = Batches(folder / "dense", tokenizer, scenes, seed)(EAGER)
        batches = Batches(folder / "shards", tokenizer, scenes, seed)
        self._supplies = {0.0: batches(EAGER), course.balanced_from: batches(BALANCED)}

    def learn(self, done: float) -> dict[str, float]:
        """Leave gradients in the network; `done` is the share of the time that is over."""
        tower_alone = done < self._course.tower_alone
        supply = self._supplies[max(start for start in self._supplies if start <= done)]
        batch = next(self._speech if tower_alone else supply)
        batch = Batch(*(tensor.to(self._device) for tensor in batch))
        batch = batch._replace(mel=batch.mel.to(torch.bfloat16))
        if tower_alone:
            loss, figures = self._network.label_loss(batch)
        else:
            replies, heads, figures = self._network.losses(batch)
            loss = replies + (0.3 if done < self._course.balanced_from else 0.12) * heads
        loss.backward()  # type: ignore[no-untyped-call]
        return figures


class _State:
    """The networks' masters, their optimisers, and how far all has come."""

    def __init__(self, file: Path, device: torch.device, replicas: int) -> None:
        self.file = file
        self.precision = MixedPrecision(Network(), device, replicas)
        self.optimisers = self.precision.optimisers(MUON_RATE, ADAM_RATE)
        self.steps, self.seconds = 0, 0.0
        self._figures: deque[dict[str, float]] = deque(maxlen=TOLD_EVERY_STEPS * replicas)
        if file.exists():
            self._load(torch.load(file, map_location=device, weights_only=True))

    def update(self, rate: float, figures: list[dict[str, float]]) -> None:
        """One step, with the gradients that the networks hold."""
        rate *= min(1.0, (self.steps + 1) / WARM_UP_STEPS)
        for optimiser, most in zip(self.optimisers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = most * rate
        self.precision.take_gradients(CLIP)
        for optimiser in self.optimisers:
            optimiser.step()
        self.precision.put_weights()
        self.steps += 1
        self._figures += figures

    def report(self) -> str:
        """Means over the last steps."""
        names = self._figures[-1].keys()
        known = [figures for figures in self._figures if figures.keys() == names]
        means = {name: statistics.fmean(f[name] for f in known if not math.isnan(f[name])) for name in names}
        return "  ".join(f"{name} {mean:.3f}" for name, mean in means.items())

    def save(self) -> None:
        """Write everything that going on needs; never half a file."""
        partial = self.file.with_suffix(".partial")
        torch.save({
            "weights": {name: master.detach() for name, master in self.precision.masters.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "steps": self.steps, "seconds": self.seconds,
        }, partial)  # fmt: skip
        partial.replace(self.file)

    def take(self, weights: dict[str, torch.Tensor]) -> None:
        """Go on from these."""
        with torch.no_grad():
            for name, master in self.precision.masters.items():
                master.copy_(weights[name])
        self.precision.put_weights()

    def _load(self, saved: dict[str, Any]) -> None:
        self.take(saved["weights"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.steps, self.seconds = saved["steps"], saved["seconds"]
