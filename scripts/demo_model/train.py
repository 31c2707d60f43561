"""Training, driven by the clock: it fits whatever time it is given, and goes on where it was stopped.

First the tower alone learns to tell phonemes and sounds apart, on speech without pauses, for which the synthesisers
give the labels; then the language model finds something to read and learns at once.
"""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from batches import BALANCED, EAGER, Batches
from learner import Batch, MixedPrecision, Network
from vocabulary import open_tokenizer

SCENES_A_BATCH = 8
SAVED_EVERY_STEPS = 100
TOLD_EVERY_STEPS = 50
TOWER_ALONE = 0.2  # of the time
HELD = 0.55  # the rate is held until then, and falls to `LAST_RATE` of itself by the end
LAST_RATE = 0.02
BALANCED_FROM = 0.6  # before, missing an answer costs more than giving one too many
MUON_RATE, ADAM_RATE = 3e-3, 1.8e-3
WARM_UP_STEPS = 40
CLIP = 1.0
STATE_FILE = "training.pt"


def train(folder: Path, minutes: float, seed: int, device: torch.device, console: Console) -> Path:
    """Train on `folder`/shards with `folder`/vocabulary; the file of the weights."""
    torch.manual_seed(seed)
    state = _State(folder / STATE_FILE, device)
    batches = Batches(folder / "shards", open_tokenizer(folder / "vocabulary"), SCENES_A_BATCH, seed + state.steps)
    dense = Batches(folder / "dense", open_tokenizer(folder / "vocabulary"), SCENES_A_BATCH, seed + state.steps)
    speech, eager, balanced = dense(EAGER), batches(EAGER), batches(BALANCED)

    def supply() -> Batch:
        done = state.seconds / (60 * minutes)
        return next(speech if done < TOWER_ALONE else eager if done < BALANCED_FROM else balanced)

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(supply)
        task = bar.add_task("", total=1.0, told="")
        while (done := state.seconds / (60 * minutes)) < 1:
            began = time.perf_counter()
            batch, coming = coming.result(), ahead.submit(supply)
            state.step(done, batch)
            state.seconds += time.perf_counter() - began
            bar.update(task, completed=done, told=f"step {state.steps}")
            if state.steps % TOLD_EVERY_STEPS == 0:
                console.print(f"{state.seconds / 60:5.1f} min  step {state.steps:5}  {state.report()}")
            if state.steps % SAVED_EVERY_STEPS == 0:
                state.save()
    state.save()
    return state.file


class _State:
    """The network, its optimisers, and how far it has come."""

    def __init__(self, file: Path, device: torch.device) -> None:
        self.file = file
        self.device = device
        self.precision = MixedPrecision(Network(), device)
        self.optimisers = self.precision.optimisers(MUON_RATE, ADAM_RATE)
        self.steps, self.seconds = 0, 0.0
        self._figures: deque[dict[str, float]] = deque(maxlen=TOLD_EVERY_STEPS)
        if file.exists():
            self._load(torch.load(file, map_location=device, weights_only=True))

    def step(self, done: float, batch: Batch) -> None:
        """Learn from one batch; `done` is the share of the time that is over."""
        batch = Batch(*(tensor.to(self.device) for tensor in batch))
        batch = batch._replace(mel=batch.mel.to(torch.bfloat16))
        rate = min(1.0, (self.steps + 1) / WARM_UP_STEPS) * _rate(done)
        for optimiser, most in zip(self.optimisers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = most * rate
        if done < TOWER_ALONE:
            _, logits = self.precision.network.hear(batch.mel.flatten(0, 1))
            loss = F.cross_entropy(logits.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=-100)
            heard = batch.labels.flatten() > 0
            accuracy = (logits.flatten(0, 1).argmax(-1) == batch.labels.flatten())[heard].float().mean()
            figures = {"labels": loss.item(), "label accuracy": accuracy.item()}
        else:
            replies, labels, figures = self.precision.network.losses(batch)
            loss = replies + (0.3 if done < HELD else 0.12) * labels
        loss.backward()  # type: ignore[no-untyped-call]
        self.precision.take_gradients(CLIP)
        for optimiser in self.optimisers:
            optimiser.step()
        self.precision.put_weights()
        self.steps += 1
        self._figures.append(figures)

    def report(self) -> str:
        """Means over the last steps."""
        names = self._figures[-1].keys()
        known = [figures for figures in self._figures if figures.keys() == names]
        return "  ".join(f"{name} {sum(f[name] for f in known) / len(known):.3f}" for name in names)

    def save(self) -> None:
        """Write everything that going on needs; never half a file."""
        partial = self.file.with_suffix(".partial")
        torch.save({
            "weights": {name: master.detach() for name, master in self.precision.masters.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "steps": self.steps, "seconds": self.seconds,
        }, partial)  # fmt: skip
        partial.replace(self.file)

    def _load(self, saved: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, master in self.precision.masters.items():
                master.copy_(saved["weights"][name])
        self.precision.put_weights()
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.steps, self.seconds = saved["steps"], saved["seconds"]


def _rate(done: float) -> float:
    return 1.0 if done < HELD else max(LAST_RATE, 1.0 - (1.0 - LAST_RATE) * (done - HELD) / (1.0 - HELD))
