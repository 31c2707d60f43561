"""What the demo model can do, measured by the product's own streaming decoder on sound it was never trained on.

Voices, sentences, event parameters and recordings are those kept apart from training; decoding is greedy, in the
live path, chunk by chunk. Prints a table, and ends with one JSON line.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import backgrounds
import recordings
import scenes
import sounds
from build import SEED, WORKSPACE
from closed_set import COUNTS, INTENT_OF, INTENTS, SOUNDS
from hearing import (
    Job,
    Outcome,
    hear_background,
    hear_event,
    hear_phrase,
    hear_scene,
    set_up,
)
from scoring import Score, is_right

console = Console(stderr=True)
HOURS, HOUR_CHUNKS = 4, 9_000
CONTEXT_INTENTS = ("stop_counting", "my_name", "what_was_that", "again", "quiet", "wake", "name")


def evaluate(
    checkpoint: Annotated[str, typer.Option(help="Folder or name of the checkpoint.")] = "demo",
    workspace: Annotated[Path, typer.Option(help="Where the voices are.")] = WORKSPACE,
    scale: Annotated[float, typer.Option(help="How much of everything; 1 takes some 15 minutes on two cores.")] = 1.0,
    hour: Annotated[bool, typer.Option(help="Also the one-hour streams.")] = True,
    only: Annotated[str, typer.Option(help="Only the parts of these names, with commas between.")] = "",
    seed: Annotated[int, typer.Option(help="Another seed makes another test of the same kind.")] = SEED + 1_000_000,
    eagerness: Annotated[float, typer.Option(help="Added to the logit of speaking, as in the product.")] = 0.0,
    trained: Annotated[
        bool, typer.Option(help="With the voices of training: what the model lacks beside voices.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Measure a demo checkpoint."""
    parts = dict(PARTS)
    if not hour:
        parts.pop("hour")
    if only:
        parts = {name: parts[name] for name in only.split(",")}
    bank = workspace / ("bank" if trained else "bank-held-out")
    if not any(bank.glob("part-*.json")):
        raise typer.BadParameter(f"no voices in {bank}; make them: scripts/demo_model/build --only voices")
    table = Table("measure", "goal", "reached", "n", title=f"{checkpoint}, voices of {bank.name}")
    results: dict[str, Any] = {}
    setup = partial(set_up, checkpoint, bank, eagerness)
    with ProcessPoolExecutor(workers, initializer=setup) as pool:
        run = partial(_run_all, pool)
        for name, part in parts.items():
            for row in part(run, scale, seed):
                table.add_row(row.measure, row.goal, row.shown, str(row.n))
                results[row.measure] = {"value": row.value, "n": row.n}
            console.print(f"done: {name}")
    Console().print(table)
    typer.echo(json.dumps(results))


@dataclass(frozen=True, slots=True)
class Row:
    measure: str
    goal: str
    value: float
    n: int
    unit: str = "%"

    @property
    def shown(self) -> str:
        return f"{100 * self.value:.1f} %" if self.unit == "%" else f"{self.value:.2f} {self.unit}"


def _share(measure: str, goal: str, flags: Sequence[bool]) -> Row:
    return Row(measure, goal, sum(flags) / max(len(flags), 1), len(flags))


Run = Callable[[Callable[[Job], Outcome], list[Job]], list[Outcome]]


# --- the parts ---------------------------------------------------------------------------------------------------


def _scenes_part(run: Run, scale: float, seed: int) -> Iterator[Row]:
    """Dense scenes of all kinds, as in training but with held-out material."""
    jobs = [
        Job(profile, 60, seed + 1000 * p + n)
        for p, (profile, share) in enumerate(scenes.PROFILES.items())
        for n in range(max(1, round(200 * scale * share)))
    ]
    outcomes = run(hear_scene, jobs)
    total = _sum(outcomes)
    plain = [i.name for i in INTENTS if i.name not in (*CONTEXT_INTENTS, *COUNTS)]
    yield _share("scenes: intents", "≥ 97 %", total.right(kinds=plain))
    yield _share("scenes: sounds", "≥ 97 %", total.right(kinds=[s.name for s in SOUNDS]))
    yield _share("scenes: all answers", "", total.right())
    yield Row("scenes: false replies", "", total.false_a_minute, int(total.seconds / 60), "a minute")
    yield from _details(total, outcomes)


def _details(total: Score, outcomes: list[Outcome]) -> Iterator[Row]:
    for name in CONTEXT_INTENTS:
        yield _share(f"scenes: {name}", "≥ 95 %" if name != "what_was_that" else "", total.right(kinds=[name]))
    quiet_false = [beside for o in outcomes if o.job.profile == "quiet" for beside in o.false_beside]
    console.print("false beside:", Counter(b for o in outcomes for b in o.false_beside).most_common(25))
    console.print("false in quiet scenes:", len(quiet_false))
    console.print("wrong:", _wrong(total).most_common(40))


def _phrases_part(run: Run, scale: float, seed: int) -> Iterator[Row]:
    """Every phrase alone, lead-in and tail, in held-out voices, at 10-30 dB SNR."""
    forms = [form for form in INTENT_OF for _ in range(max(1, round(12 * scale)))]
    outcomes = run(hear_phrase, [Job(form, 0, seed + n) for n, form in enumerate(forms)])
    total = _sum(outcomes)
    yield _share("phrases alone: right text and emotion", "≥ 97 %", total.right())
    yield Row("phrases alone: replies too many", "", len(total.false), len(outcomes), "")
    delays = np.array(total.delays())
    yield Row("delay after a phrase, median", "≤ 2 chunks", float(np.median(delays)), len(delays), "chunks")
    yield Row(
        "delay after a phrase, 95th percentile", "≤ 3 chunks", float(np.percentile(delays, 95)), len(delays), "chunks"
    )
    wrong = Counter(
        (o.job.profile, r.text if r else None) for o in outcomes for e, r in o.score.due if not is_right(e, r)
    )
    console.print("phrases wrong:", wrong.most_common(40))
    for synthesiser in sorted({o.voice.split()[0] for o in outcomes}):
        by = _sum([o for o in outcomes if o.voice.split()[0] == synthesiser])
        yield _share(f"phrases alone: voices of {synthesiser}", "≥ 97 %", by.right())
    voices = Counter(o.voice for o in outcomes if not all(o.score.right()) or o.score.false)
    console.print("wrong by voice:", voices.most_common(12))


def _sounds_part(run: Run, scale: float, seed: int) -> Iterator[Row]:
    """Every event alone."""
    kinds = [kind for kind in sounds.EVENTS for _ in range(max(1, round(40 * scale)))]
    outcomes = run(hear_event, [Job(kind, 0, seed + n) for n, kind in enumerate(kinds)])
    total = _sum(outcomes)
    yield _share("sounds alone: right text and emotion", "≥ 97 %", total.right())
    yield Row("sounds alone: replies too many", "", len(total.false), len(outcomes), "")
    console.print("sounds wrong:", _wrong(total))


def _bystander_part(run: Run, scale: float, seed: int) -> Iterator[Row]:
    """Speech that is not for the model, near misses included; then sound without speech."""
    outcomes = run(hear_scene, [Job("talk", 150, seed + n) for n in range(max(1, round(60 * scale)))])
    total = _sum(outcomes)
    yield Row(
        "false replies on speech not for it",
        "≤ 0.3 a minute",
        total.false_a_minute,
        int(total.seconds / 60),
        "a minute",
    )
    console.print("talk answered:", Counter(b for o in outcomes for b in o.false_beside).most_common(40))
    kinds = backgrounds.BACKGROUNDS
    outcomes = run(
        hear_background, [Job(kinds[n % len(kinds)], 150, seed + n) for n in range(max(1, round(100 * scale)))]
    )
    total = _sum(outcomes)
    yield Row(
        "false replies on noise, music, appliances",
        "≤ 0.05 a minute",
        total.false_a_minute,
        int(total.seconds / 60),
        "a minute",
    )
    console.print("noise answered:", Counter((o.job.profile, r.text) for o in outcomes for r in o.score.false))


def _sessions_part(run: Run, scale: float, seed: int) -> Iterator[Row]:
    """Whole counting sessions; names, repetition, quiet and wake in their own scenes."""
    outcomes = run(hear_scene, [Job("one count", 75, seed + n) for n in range(max(1, round(100 * scale)))])
    yield _share(
        "counting sessions with every number right",
        "≥ 90 %",
        [all(o.score.right()) and not o.score.false for o in outcomes],
    )
    yield _share("single numbers and totals", "", _sum(outcomes).right())
    for profile, kinds in (("name", ("name", "my_name")), ("context", ("again",)), ("quiet", ("quiet", "wake"))):
        outcomes = run(hear_scene, [Job(profile, 60, seed + 7000 + n) for n in range(max(1, round(70 * scale)))])
        total = _sum(outcomes)
        for kind in kinds:
            yield _share(f"{profile} scenes: {kind}", "≥ 95 %", total.right(kinds=[kind]))
        if profile == "context":
            yield _share("context scenes: what_was_that", "", total.right(kinds=["what_was_that"]))
        if profile == "quiet":
            yield Row("quiet scenes: false replies", "", total.false_a_minute, int(total.seconds / 60), "a minute")
        console.print(profile, "wrong:", _wrong(total).most_common(12))


def _hour_part(run: Run, _scale: float, seed: int) -> Iterator[Row]:
    """Hours in one session each: the window slides all the time. One reply that changes the state spoils minutes."""
    outcomes = run(hear_scene, [Job("mix", HOUR_CHUNKS, seed + n) for n in range(HOURS)])
    total = _sum(outcomes)
    for name, start, end in (("first ten minutes", 0, 600), ("last ten minutes", 3_000, 3_600)):
        due = [is_right(e, r) for e, r in total.due if start <= e.end_s < end]
        yield _share(f"one-hour streams: {name}", "no worse by 2 points", due)
    yield _share("one-hour streams: all answers", "", total.right())
    yield Row("one-hour streams: false replies", "", total.false_a_minute, int(total.seconds / 60), "a minute")
    console.print("in the hours wrong:", _wrong(total).most_common(20))


def _forms_part(run: Run, scale: float, seed: int) -> Iterator[Row]:
    """The same phrases heard as files, at low and at high level."""
    forms = [form for form in INTENT_OF for _ in range(max(1, round(2 * scale)))]
    for kind in ("file", "low", "high"):
        outcomes = run(hear_phrase, [Job(f"{kind}:{form}", 0, seed + n) for n, form in enumerate(forms)])
        yield _share(f"phrases: {FORMS_OF_HEARING[kind]}", "≥ 97 %", _sum(outcomes).right())


def _people_part(run: Run, scale: float, seed: int) -> Iterator[Row]:
    """The few phrases of which there are recordings of a person, each in so many rooms and noises."""
    forms = [form for form, _ in recordings.recorded_phrases() for _ in range(max(1, round(40 * scale)))]
    outcomes = run(hear_phrase, [Job(f"people:{form}", 0, seed + n) for n, form in enumerate(forms)])
    yield _share("phrases by a person, on the telephone", "", _sum(outcomes).right())
    for form in dict.fromkeys(forms):
        yield _share(f"of these {form}", "", _sum([o for o in outcomes if o.job.profile == form]).right())


FORMS_OF_HEARING = {"file": "as a file", "low": "peak at -45 dBFS", "high": "peak at 0 dBFS"}
PARTS: dict[str, Callable[[Run, float, int], Iterator[Row]]] = {
    "phrases": _phrases_part,
    "forms": _forms_part,
    "people": _people_part,
    "sounds": _sounds_part,
    "bystander": _bystander_part,
    "sessions": _sessions_part,
    "scenes": _scenes_part,
    "hour": _hour_part,
}


def _run_all(pool: ProcessPoolExecutor, work: Callable[[Job], Outcome], jobs: list[Job]) -> list[Outcome]:
    return list(pool.map(work, jobs, chunksize=1))


def _wrong(total: Score) -> "Counter[tuple[str, str | None]]":
    """What was due and what came instead."""
    return Counter((e.kind, reply.text if reply else None) for e, reply in total.due if not is_right(e, reply))


def _sum(outcomes: Sequence[Outcome]) -> Score:
    total = Score()
    for outcome in outcomes:
        total.add(outcome.score)
    return total


if __name__ == "__main__":
    typer.run(evaluate)
