"""The right answer to everything that can happen, given what happened before.

The state machine that the model learns to be: it knows no sound, only what a sound or a phrase *is*.
"""

from dataclasses import dataclass
from typing import NamedTuple

from closed_set import BEYOND_TEN, COUNTS, INTENT_OF, INTENTS, NUMBERS, SOUND_OF, SOUNDS, Intent


class Answer(NamedTuple):
    """A reply as the model should give it."""

    emotion: str
    text: str


COUNTED_AS = {"bark1": ("bark", "barks"), "knock1": ("knock", "knocks"), "beep1": ("beep", "beeps")}
RECALLED_BEEP = "That was a beep."


@dataclass(slots=True)
class Dialogue:
    """What the model has to remember."""

    name: str | None = None
    counting: str | None = None
    """bark1, knock1 or beep1."""
    count: int = 0
    quiet: bool = False
    last_answer: Answer | None = None
    last_sound: str | None = None
    answers_since_name: int = 0

    def phrase(self, form: str) -> Answer | None:
        """Someone said `form`, one of the phrases of the closed set."""
        intent = INTENT_OF[form]
        if self.quiet and intent.name != "wake":
            return None
        return self._said(self._answer_to(intent, form))

    def sound(self, kind: str) -> Answer | None:
        """A sound of the closed set was heard: one of the events, or a single bark, knock or beep."""
        event, _ = COUNTED_AS.get(kind, (kind, ""))
        self.last_sound = event
        if self.quiet:
            return None
        if kind == self.counting:
            self.count += 1
            return self._said(Answer("normal", NUMBERS[self.count - 1] if self.count <= 10 else BEYOND_TEN))
        if event not in SOUND_OF:
            return None  # a single beep is nobody's business
        return self._said(Answer(SOUND_OF[event].emotion, SOUND_OF[event].reply))

    def _said(self, answer: Answer) -> Answer:
        self.last_answer = answer
        self.answers_since_name += 1
        return answer

    def _answer_to(self, intent: Intent, form: str) -> Answer:
        match intent.name:
            case "name":
                self.name, self.answers_since_name = form.split()[-1], 0
                return Answer("happy", f"Nice to meet you, {self.name}.")
            case "my_name":
                return Answer("normal", f"Your name is {self.name}.") if self.name else NO_NAME
            case "what_was_that":
                return self._recalled()
            case "again":
                return self.last_answer or NOTHING_SAID
            case "stop_counting":
                return self._total()
            case "quiet" | "wake":
                self.quiet = intent.name == "quiet"
            case name if name in COUNTS:
                self.counting, self.count = COUNTS[name], 0
        if not intent.emotion or not intent.reply:
            raise AssertionError(f"no answer to {intent.name}")
        return Answer(intent.emotion, intent.reply)

    def _recalled(self) -> Answer:
        if self.last_sound is None:
            return NOTHING_HEARD
        return Answer("normal", RECALLED_BEEP if self.last_sound == "beep" else SOUND_OF[self.last_sound].recalled)

    def _total(self) -> Answer:
        if not self.counting:
            return NOT_COUNTING
        self.counting, total = None, self.count
        return Answer("normal", f"I counted {NUMBERS[total - 1][:-1].lower() if 0 < total <= 10 else _extreme(total)}.")


def _extreme(total: int) -> str:
    return "many" if total else "none"


NO_NAME = Answer("sad", "I do not know your name.")
NOTHING_SAID = Answer("normal", "I have not said anything.")
NOTHING_HEARD = Answer("normal", "I have not heard anything.")
NOT_COUNTING = Answer("normal", "I was not counting.")


def all_texts() -> list[str]:
    """Every text the model may say."""
    fixed = [intent.reply for intent in INTENTS if intent.reply]
    fixed += [text for sound in SOUNDS for text in (sound.reply, sound.recalled)]
    fixed += [answer.text for answer in (NO_NAME, NOTHING_SAID, NOTHING_HEARD, NOT_COUNTING)]
    fixed += [RECALLED_BEEP, BEYOND_TEN, *NUMBERS]
    fixed += [f"I counted {n}." for n in ("none", "many", *(number[:-1].lower() for number in NUMBERS))]
    for form in INTENT_OF:
        if INTENT_OF[form].name == "name":
            fixed += [f"Nice to meet you, {form.split()[-1]}.", f"Your name is {form.split()[-1]}."]
    return sorted(set(fixed))


def understood() -> dict[str, object]:
    """The closed set as `ai-cli info demo` shows it."""
    phrases = [{"spoken": list(i.forms), "emotion": i.emotion, "reply": i.reply} for i in INTENTS]
    sounds = [{"name": s.name, "emotion": s.emotion, "reply": s.reply} for s in SOUNDS]
    return {"phrases": phrases, "sounds": sounds}
