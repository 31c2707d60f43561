"""Text to token ids and back, whole characters at a time. Knows the tokenizer, not the protocol.

The tokenizer is a byte-level BPE: a token stands for bytes, and a character of several bytes may be
spread over several tokens. `Detokenizer` therefore decodes bytes, and holds back an unfinished character.
"""

import codecs
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders

from audio_interaction_cli.errors import CheckpointError


def _byte_of_symbol() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable symbol (as GPT-2 did): itself where Latin-1 can
    print it, else the next code point from 256 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {chr(byte): byte for byte in printable}
    return symbols | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_of_symbol()


class TextTokenizer:
    """The checkpoint's tokenizer."""

    def __init__(self, file: Path) -> None:
        """Read `tokenizer.json`; CheckpointError if it is damaged or not a byte-level BPE."""
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more specific
            raise CheckpointError(f"{file.name} is damaged: {error}", "download the checkpoint again") from error
        if not isinstance(self._tokenizer.decoder, decoders.ByteLevel):
            raise CheckpointError(f"{file.name} is not a byte-level BPE tokenizer, the only kind known here")

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, no special tokens added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; bytes that form no character become U+FFFD."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def text_ids(self) -> list[int]:
        """All ids that are text: the vocabulary without special and added tokens."""
        vocabulary = set(self._tokenizer.get_vocab(with_added_tokens=False).values())
        return sorted(vocabulary - self._tokenizer.get_added_tokens_decoder().keys())  # which it may hold as well

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a text token stands for."""
        return bytes(_BYTES[symbol] for symbol in self._tokenizer.id_to_token(token) or "")


class Detokenizer:
    """Turns the tokens of one reply into pieces of text; the pieces, joined, are `decode` of them all."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The whole characters that this token completes, often none."""
        return self._decoder.decode(self._tokenizer.bytes_of(token))

    def finish(self) -> str:
        """What is left of an unfinished character, as U+FFFD."""
        return self._decoder.decode(b"", final=True)
