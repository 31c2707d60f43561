"""The demo model's own tokens: a byte-level tokenizer of its replies, and control ids right behind it."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import distractors
from audio_interaction_cli.protocol import TokenIds
from dialogue import all_texts

ENTRIES = 768
SENTENCES = 2_000  # of ordinary speech, so that prompts of any wording have tokens
SYSTEM_PROMPT = "You are a helpful assistant."
SPECIALS = ("<|text_end|>", "<|text_begin|>", "<|audio_begin|>")
CONTROLS = ("assistant", "keep_silence", "pad", "online", "english",
            "happy", "sad", "angry", "surprise", "normal", "urgent")  # fmt: skip
PADDED_VOCABULARY = 784  # a multiple of 16 that holds them all

TOKEN_IDS = TokenIds(
    control_begin=ENTRIES,
    control_end=ENTRIES + len(CONTROLS),
    **{name: ENTRIES + n for n, name in enumerate(CONTROLS)},
    text_end=ENTRIES + len(CONTROLS),
    text_begin=ENTRIES + len(CONTROLS) + 1,
    system=ENTRIES + len(CONTROLS) + 1,
    audio_begin=ENTRIES + len(CONTROLS) + 2,
)


def build(folder: Path, seed: int) -> None:
    """Write tokenizer.json and protocol.json."""
    rng = np.random.default_rng(seed)
    texts = all_texts() * 20 + [SYSTEM_PROMPT] * 20
    texts += [distractors.sentence(rng, held_out=False) for _ in range(SENTENCES)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=ENTRIES, initial_alphabet=alphabet, show_progress=False)
    )
    assert tokenizer.get_vocab_size() == ENTRIES
    # Two kinds behind the words: signs that are ordinary entries elsewhere, and the tokenizer's own specials.
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in CONTROLS])
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIALS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    protocol = {"token_ids": asdict(TOKEN_IDS), "system_prompt": SYSTEM_PROMPT}
    (folder / "protocol.json").write_text(json.dumps(protocol, indent=1) + "\n")


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that `build` wrote."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
