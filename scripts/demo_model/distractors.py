"""Speech that is not for the model: what it must hear without answering.

Three kinds: near misses (a phrase of the closed set with words replaced, dropped or added), made-up sentences,
and prose. Sentences and what they are made of are split by a hash: a quarter is only ever used for evaluation, though
a word of it may occur in other sentences.
"""

import base64
import re
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pydoc_data.topics import topics

import numpy as np

from closed_set import INTENT_OF


def _list(text: str) -> tuple[str, ...]:
    return tuple(" ".join(item.split()) for item in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SUBJECTS = _list("""
    he, she, they, we, my brother, her sister, the teacher, a friend of mine, the man next door, nobody, our
    neighbour, the driver, someone, his boss, the whole team, grandmother, the cat, a stranger, the baker, my
    doctor, the children, that woman, the student, every tourist, the old captain, your cousin, the manager, the
    painter, an engineer, the mayor, two boys, the band, this company, the farmer, my uncle, the nurse
""")
VERBS = _list("""
    bought, found, wanted, painted, forgot, carried, sold, watched, cleaned, repaired, liked, described, opened,
    closed, counted, lost, saw, heard, called, played, stopped, turned over, asked about, talked about, looked
    for, will bring, is going to need, has never seen, would like, cannot find, gave away, ordered, designed,
    hid, broke, borrowed, read about, dreamed of, set up, paid for, thought about
""")
OBJECTS = _list("""
    a new car, the old house, some bread, the red book, a cup of tea, the letter, the garden, his coat, three
    apples, the radio, a picture of the sea, the window, the last train, a blue bicycle, the kitchen table, an
    umbrella, the evening news, her glasses, a large box, the answer, the piano, a dozen eggs, the lamp, the
    front gate, a bowl of soup, the money, the map, his birthday present, the game, the green chair, a ticket,
    my name, the door, the light, the music, a timer, the job, the lottery, a song, the barks, the fire, that
    movie, the cheese, a long story, the bridge, the meeting, your phone, the computer, the keys
""")
TAILS = (
    "",
    "",
    "",
    "",
    *_list("""
    yesterday, in the morning, at the station, for the party, before lunch, last week, on the way home,
    without asking, near the river, because it was raining, after the meeting, next summer, every single day,
    twice, in the end, when the bell rang, although it was late, with great care, in front of the shop, for a
    while
"""),
)
WORDS = _words("""
    table window river yellow seven mountain paper never coffee school doctor tomorrow always because under
    bottle chicken market simple garden kitchen winter summer orange forty people second minute story number
    letter water fire music light door phone name count stop turn play open close good great help hello morning
    night thank you what who how where when why can could would should please maybe really very much today again
    quiet wake sleep walk run jump eat drink read write speak listen look find keep lose win buy sell give take
    bring send call ask answer tell say sing dance cook clean small large old new young long short high low fast
    slow hot cold warm dark bright happy sad angry tired hungry ready one two three four five six eight nine ten
    hundred dog cat bird horse cow sheep fish tree flower grass stone sand France Italy Spain Germany London
    Paris Rome Berlin Monday Friday August robot machine model button switch lamp radio television computer
    clock timer alarm bell key lock box bag shoe shirt hat coat bread butter cheese apple banana Robert Oliver
    Sarah Linda Michael Anna Kevin Laura Henry Julia barks knocks beeps steps drops rings birthday lottery job
    ghost doctor ambulance song joke capital weather rain snow wind cloud sun moon star
""")
MORE_WORDS = 4_000  # for training: no word of a near miss should be what gives it away
COMMON = 0.3  # of the words are still of the list above
FILLERS = _words("a an the so very much me some today please is am are do does you i it my to of that there up")

# Sentences that share most of their sound with a phrase of the closed set.
NEAR_MISSES = _list("""
    turn on the radio, turn on the heater, turn off the television, turn the page, turn around, turn left here,
    open the window, open the box, open your book, close the window, close your eyes, shut the window, play some
    football, play the piano, play cards, stop the car, stop talking, stop it, set the table, set a trap, tell
    me a secret, tell me the truth, tell me about it, what is the capital of Spain, what is the capital of
    Germany, what is the time, what is the weather, what is your job, what is my job, what is her name, what is
    his name, what does the fox say, what does the sign say, what is two plus three, what is three plus two,
    what is five plus one, what is one plus two, my name is not important, my name is Robert, my name is Oliver,
    my name is Sarah, her name is Alice, his name is Tom, I know your name, count the apples, count the money,
    count the days, stop crying, be careful, be happy, be there, wake him up, stand up, get up, give up, good
    idea, good food, good luck, good grief, thank god, thank him, I thank them for it, hello kitty, yellow,
    hollow, below, help them, help yourself, I need money, I need a hat, I need sleep, there is a tree, there is
    a fly, there is a problem, there is a liar, call a taxi, call a friend, call him back, I lost my hat, I lost
    my money, I lost the game, I found my keys, I got the flu, I got the letter, I won the race, I saw a boat, I
    saw a goat, I saw the coast, I am so glad, I am so sorry, I am so old, I am angry, I feel fine today, I feel
    good, I feel bad about it, you are late, you are tall, you are right, shut down, shut in, show up, see you,
    see the light, how old are you, how far is it, how are the children, who are they, who were you, what are
    they, what are those, where are you, can you see me, can you help him, can you drive, are you sure, are they
    there, are you here, are you ready, is it my turn, it is my car, it is my holiday, today is Monday, today is
    my day off, I love it, I love pizza, I love them, sing along, say it, say hello, say that, say that now,
    repeat after me, what was it, what is that, what did you say, what did you eat, did you hear, do you know
    him, do you know the way, switch on the engine, switch off the phone, switch places, start a war, start a
    fire, start again, do it again, never again, once again, well known, well said, not well, good evening
    dress, nice evening, one evening, good morning sunshine, this morning, last night, good knight story, bye,
    buy bread, see you tomorrow
""")
EVALUATION_NEAR_MISSES = _list("""
    turn on the oven, turn off the water, turn the light over, open the letter, close the shop, play some cards,
    stop the train, set a date, tell me a lie, what is the capital of Poland, what does the dog say, my name is
    Kevin, what is four plus one, count the cards, stop running, be quick, wake the baby, good point, I need
    shoes, there is a car, call a plumber, I lost my hope, I got the book, I saw a horse, I am so cold, you are
    funny, how are they, what are we, can you hear it, are you home, today is Sunday, I love cake, say it
    louder, what was the score, sing with us, good afternoon, do you know the answer, thank the driver, switch
    on the fan
""")


def _is_held_out(text: str) -> bool:
    return zlib.crc32(text.encode()) % 4 == 0


def _side(items: Sequence[str], held_out: bool) -> list[str]:
    return [item for item in items if not item or _is_held_out(item) == held_out]


def _pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


def _content(text: str) -> tuple[str, ...]:
    """What is left of a sentence without small words; equal content may well mean the same."""
    return tuple(word for word in text.lower().split() if word not in FILLERS)


FORMS = tuple(INTENT_OF)
_ROOTS = tuple({word.lower() for form in FORMS for word in form.split() if len(word) > 3})
_MEANINGS = frozenset(_content(form) for form in FORMS)


@cache
def _more_words() -> list[str]:
    """The words most often written in English (and pieces of some), as Whisper's vocabulary has them in that order."""
    lines = (files("whisper") / "assets" / "gpt2.tiktoken").read_bytes().splitlines()
    tokens = (base64.b64decode(line.split()[0]) for line in lines)
    words = (token[1:].decode() for token in tokens if re.fullmatch(rb" [a-z]{4,10}", token))
    # "Lights" for "light" is no near miss.
    return _side([word for word in words if not word.startswith(_ROOTS)][:MORE_WORDS], held_out=False)


@cache
def _common_words(held_out: bool) -> list[str]:
    return _side(WORDS, held_out)


def _word(rng: np.random.Generator, held_out: bool) -> str:
    return _pick(rng, _common_words(held_out) if held_out or rng.random() < COMMON else _more_words())


def _automatic_near_miss(rng: np.random.Generator, held_out: bool) -> str:
    """A phrase with one or two words replaced, dropped, or with words added."""
    while True:
        words = _pick(rng, FORMS).split()
        match rng.integers(6):
            case 0 | 1 | 2:
                for place in rng.choice(len(words), min(len(words), int(rng.integers(1, 3))), replace=False):
                    words[place] = _word(rng, held_out)
            case 3:
                words = words[: int(rng.integers(1, len(words)))] if len(words) > 1 else [_word(rng, held_out)]
            case 4:
                words = [*words, *(_word(rng, held_out) for _ in range(int(rng.integers(1, 4))))]
            case _:
                del words[int(rng.integers(len(words)))]
                words = words or [_word(rng, held_out)]
        text = " ".join(words)
        if _is_held_out(text) == held_out:  # for what is only shortened has no word that tells the sides apart
            return text


def _made_up(rng: np.random.Generator, held_out: bool) -> str:
    parts = (_pick(rng, _side(items, held_out)) for items in (SUBJECTS, VERBS, OBJECTS, TAILS))
    return " ".join(parts).strip()


def _buried(rng: np.random.Generator, held_out: bool) -> str:
    """A phrase of the closed set inside a sentence that is not for the model."""
    subject = _pick(rng, _side(SUBJECTS, held_out))
    before = _pick(rng, ("said", "told me", "did not say", "wrote", "thought", "always says", "heard someone say"))
    after = _pick(
        rng, ("and left", "but it was too late", "to the driver", "in the film", "with a smile", "and went home")
    )
    return f"{subject} {before} {_pick(rng, FORMS)} {after}"


def _salad(rng: np.random.Generator, held_out: bool) -> str:
    return " ".join(_word(rng, held_out) for _ in range(int(rng.integers(1, 9))))


def _near_miss(rng: np.random.Generator, held_out: bool) -> str:
    return _pick(rng, EVALUATION_NEAR_MISSES if held_out else NEAR_MISSES)


@cache
def _prose(held_out: bool) -> list[str]:
    """Sentences of 3 to 14 plain words from the Python documentation."""
    sentences = re.split(r"[.:;!?]\s", re.sub(r"\s+", " ", " ".join(topics.values())))
    plain = [s.strip(" ,") for s in sentences if re.fullmatch(r"[A-Za-z][a-z, ]+", s.strip())]
    return _side([s for s in plain if 3 <= len(s.split()) <= 14], held_out)


KINDS: tuple[tuple[float, Callable[[np.random.Generator, bool], str]], ...] = (
    (0.42, _automatic_near_miss),
    (0.17, _near_miss),
    (0.19, _made_up),
    (0.06, _buried),
    (0.08, _salad),
    (0.08, lambda rng, held_out: _pick(rng, _prose(held_out))),
)


def sentence(rng: np.random.Generator, *, held_out: bool) -> str:
    """Something that is not to be answered; never a phrase of the closed set, nor one in other words."""
    makers = [maker for _, maker in KINDS]
    others = NEAR_MISSES if held_out else EVALUATION_NEAR_MISSES
    forms = [form.lower() for form in FORMS]
    shares = np.array([share for share, _ in KINDS])
    while True:
        text = makers[int(rng.choice(len(makers), p=shares / shares.sum()))](rng, held_out)
        content = _content(text)
        if content and content not in _MEANINGS and text.lower() not in forms and text not in others:
            return text
