"""What the demo model is taught: the right answers, and speech that calls for none."""

import numpy as np
import pytest

from closed_set import INTENT_OF, INTENTS, NAMES
from dialogue import NO_NAME, NOT_COUNTING, NOTHING_HEARD, NOTHING_SAID, Dialogue, all_texts
from distractors import EVALUATION_NEAR_MISSES, NEAR_MISSES, sentence


def said(dialogue: Dialogue, *items: str) -> list[str | None]:
    answers = [dialogue.phrase(item) if item in INTENT_OF else dialogue.sound(item) for item in items]
    return [answer and answer.text for answer in answers]


def test_counting() -> None:
    items = ["count the barks", *["bark1"] * 12, "knock1", "stop counting", "stop counting"]
    numbers = [
        "One.",
        "Two.",
        "Three.",
        "Four.",
        "Five.",
        "Six.",
        "Seven.",
        "Eight.",
        "Nine.",
        "Ten.",
        "Many.",
        "Many.",
    ]
    assert said(Dialogue(), *items) == [
        "Okay, counting barks.", *numbers, "Someone is knocking.", "I counted many.", NOT_COUNTING.text,
    ]  # fmt: skip
    assert said(Dialogue(), "count the beeps", "stop counting") == ["Okay, counting beeps.", "I counted none."]
    assert said(Dialogue(), "beep1", "bark1") == [None, "A dog is barking."]


def test_quiet_and_wake() -> None:
    items = ("be quiet", "hello", "alarm", "be quiet", "wake up", "what was that")
    quiet, wake, alarm = "Okay, I will be quiet.", "I am listening again.", "That was an alarm."
    assert said(Dialogue(), *items) == [quiet, None, None, None, wake, alarm]


def test_memory() -> None:
    dialogue = Dialogue()
    assert said(dialogue, "what is my name", "my name is Tom", "do you know my name") == [
        NO_NAME.text, "Nice to meet you, Tom.", "Your name is Tom.",
    ]  # fmt: skip
    assert said(dialogue, "repeat that", "what did you hear") == ["Your name is Tom.", NOTHING_HEARD.text]
    assert said(Dialogue(), "say that again") == [NOTHING_SAID.text]


def test_every_phrase_has_one_meaning_and_an_answer() -> None:
    forms = [form for intent in INTENTS for form in intent.forms]
    assert len(forms) == len(set(forms)) == len(INTENT_OF)
    texts = set(all_texts())
    for form in forms:
        dialogue = Dialogue(name=NAMES[0])
        answer = dialogue.phrase(form)
        assert answer
        assert answer.text in texts


@pytest.mark.parametrize("held_out", [False, True])
def test_distractors_are_never_phrases(held_out: bool) -> None:
    rng = np.random.default_rng(0)
    sentences = [sentence(rng, held_out=held_out) for _ in range(2_000)]
    assert not {s.lower() for s in sentences} & {form.lower() for form in INTENT_OF}
    assert len(set(sentences)) > 800


def test_near_misses_of_the_evaluation_are_kept_apart() -> None:
    assert not set(EVALUATION_NEAR_MISSES) & set(NEAR_MISSES)
    rng = np.random.default_rng(0)
    assert not {sentence(rng, held_out=False) for _ in range(3_000)} & set(EVALUATION_NEAR_MISSES)


def test_what_is_held_out_is_never_trained_on() -> None:
    rng = np.random.default_rng(3)
    for_training, for_tests = ({sentence(rng, held_out=held_out) for _ in range(4_000)} for held_out in (False, True))
    assert not for_training & for_tests
