"""What the demo model understands: spoken intents, sounds, and the replies to them.

One table for phrases and one for sounds; everything else (training, evaluation, `understands.json`) reads them.
Replies that depend on earlier turns are `None` here and made in `dialogue`.
"""

from typing import NamedTuple


class Intent(NamedTuple):
    """One meaning, the ways to say it, and the answer."""

    name: str
    forms: tuple[str, ...]
    emotion: str | None
    reply: str | None


class Sound(NamedTuple):
    """One kind of sound that is reported unasked."""

    name: str
    emotion: str
    reply: str
    recalled: str
    """The answer to "what was that" when it was heard last."""


NAMES = ("Alice", "Tom", "Maria", "Peter", "Susan", "David", "Emma", "George")
NUMBERS = ("One.", "Two.", "Three.", "Four.", "Five.", "Six.", "Seven.", "Eight.", "Nine.", "Ten.")
BEYOND_TEN = "Many."

INTENTS = (
    Intent("hello", ("hello", "hello there", "hi there"), "happy", "Hello! How can I help?"),
    Intent("goodbye", ("goodbye", "bye bye", "see you later"), "normal", "Goodbye. Talk to you soon."),
    Intent("thanks", ("thank you", "thanks a lot", "thank you very much"), "happy", "You are welcome!"),
    Intent("how_are_you", ("how are you", "how are you today"), "happy", "I am doing well, thank you."),
    Intent("who_are_you", ("who are you", "what are you", "what is your name"), "normal", "I am a small audio model."),
    Intent("abilities", ("what can you do",), "normal", "I listen, and I speak when it helps."),
    Intent("robot", ("are you a robot",), "normal", "No, just a small program."),
    Intent("joke", ("tell me a joke",), "happy", "Why did the microphone blush? It heard everything."),
    Intent("story", ("tell me a story",), "happy", "Once there was a model. It listened. The end."),
    Intent("sing", ("sing a song", "sing me a song"), "happy", "La la la, la la la."),
    Intent("hear_me", ("can you hear me", "are you there"), "normal", "Yes, I can hear you."),
    Intent("morning", ("good morning",), "happy", "Good morning! Have a nice day."),
    Intent("evening", ("good evening",), "normal", "Good evening. Nice to hear you."),
    Intent("night", ("good night",), "normal", "Good night. Sleep well."),
    Intent("birthday", ("it is my birthday", "today is my birthday"), "happy", "Happy birthday to you!"),
    Intent("sad", ("I am so sad", "I feel sad today"), "sad", "I am sorry to hear that."),
    Intent("tired", ("I am so tired", "I am very tired"), "sad", "Oh dear. Try to get some rest."),
    Intent("hungry", ("I am hungry", "I am so hungry"), "normal", "Maybe it is time to eat."),
    Intent("won", ("I won the lottery", "I got the job"), "surprise", "Wow, really? Congratulations!"),
    Intent("ghost", ("I saw a ghost",), "surprise", "A ghost? I did not expect that!"),
    Intent("praise", ("you are great", "good job", "well done"), "happy", "Thank you, that is kind."),
    Intent("love", ("I love you",), "surprise", "Oh! You make me blush."),
    Intent("insult", ("you are stupid", "shut up"), "angry", "That is not a nice thing to say."),
    Intent("help", ("help me", "I need help"), "urgent", "What happened? Tell me now."),
    Intent("fire", ("there is a fire",), "urgent", "Leave the building now!"),
    Intent("ambulance", ("call an ambulance", "call a doctor"), "urgent", "I cannot call. Use your phone now!"),
    Intent("keys", ("I lost my keys",), "sad", "Oh no. Where did you last see them?"),
    Intent(
        "light_on",
        ("turn on the light", "turn the light on", "switch on the light"),
        "normal",
        "Turning the light on.",
    ),
    Intent(
        "light_off",
        ("turn off the light", "turn the light off", "switch off the light"),
        "normal",
        "Turning the light off.",
    ),
    Intent("music", ("play some music", "play music"), "happy", "Playing music."),
    Intent("stop_music", ("stop the music",), "normal", "Music stopped."),
    Intent("timer", ("set a timer", "start a timer"), "normal", "Timer set for one minute."),
    Intent("open_door", ("open the door",), "normal", "Opening the door."),
    Intent("close_door", ("close the door", "shut the door"), "normal", "Closing the door."),
    Intent("one_plus_one", ("what is one plus one",), "normal", "One plus one is two."),
    Intent("two_plus_two", ("what is two plus two",), "normal", "Two plus two is four."),
    Intent("three_plus_three", ("what is three plus three",), "normal", "Three plus three is six."),
    Intent("france", ("what is the capital of France",), "normal", "The capital of France is Paris."),
    Intent("italy", ("what is the capital of Italy",), "normal", "The capital of Italy is Rome."),
    Intent("cow", ("what does the cow say",), "happy", "Moo!"),
    Intent("count_barks", ("count the barks",), "normal", "Okay, counting barks."),
    Intent("count_knocks", ("count the knocks",), "normal", "Okay, counting knocks."),
    Intent("count_beeps", ("count the beeps",), "normal", "Okay, counting beeps."),
    Intent("stop_counting", ("stop counting",), "normal", None),
    Intent("my_name", ("what is my name", "do you know my name"), None, None),
    Intent("what_was_that", ("what was that", "what did you hear"), "normal", None),
    Intent("again", ("say that again", "repeat that"), None, None),
    Intent("quiet", ("be quiet",), "normal", "Okay, I will be quiet."),
    Intent("wake", ("wake up",), "happy", "I am listening again."),
    Intent("name", tuple(f"my name is {name}" for name in NAMES), "happy", None),
)

SOUNDS = (
    Sound("alarm", "urgent", "Smoke alarm! Please check now.", "That was an alarm."),
    Sound("doorbell", "normal", "Someone is at the door.", "That was the doorbell."),
    Sound("bark", "normal", "A dog is barking.", "That was a dog."),
    Sound("knock", "normal", "Someone is knocking.", "That was a knock."),
    Sound("glass", "urgent", "Glass broke! Be careful.", "That was breaking glass."),
    Sound("siren", "urgent", "I hear a siren.", "That was a siren."),
    Sound("phone", "normal", "The phone is ringing.", "That was the phone."),
    Sound("clap", "happy", "Bravo!", "That was applause."),
    Sound("meow", "happy", "I hear a cat.", "That was a cat."),
    Sound("horn", "angry", "Somebody is honking.", "That was a car horn."),
)

INTENT_OF = {form: intent for intent in INTENTS for form in intent.forms}
SOUND_OF = {sound.name: sound for sound in SOUNDS}
COUNTS = {"count_barks": "bark1", "count_knocks": "knock1", "count_beeps": "beep1"}
