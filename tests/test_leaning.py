"""How readily the demo model speaks, moved in its weights."""

import pytest
import torch

import leaning
from audio_interaction_cli.protocol import CHUNK_COLUMNS, CHUNK_FRAMES, N_MELS
from learner import Batch, Network
from vocabulary import TOKEN_IDS

SCENES, CHUNKS = 12, 30
CHUNK = [TOKEN_IDS.audio_begin, *[TOKEN_IDS.pad] * CHUNK_FRAMES, TOKEN_IDS.assistant, TOKEN_IDS.keep_silence]


def noise() -> Batch:
    """Scenes of noise in which every fifth chunk calls for an answer."""
    length = CHUNKS * len(CHUNK)
    chunks = torch.arange(SCENES * CHUNKS)
    starts = chunks * len(CHUNK)
    unknown = torch.full((SCENES, CHUNKS, CHUNK_FRAMES), -100)
    targets = torch.where(chunks % 5 == 0, TOKEN_IDS.text_begin, TOKEN_IDS.keep_silence)
    return Batch(
        torch.randn(SCENES, CHUNKS, N_MELS, CHUNK_COLUMNS), unknown, unknown,
        torch.tensor(CHUNK * CHUNKS).expand(SCENES, length),
        (starts[:, None] + 1 + torch.arange(CHUNK_FRAMES)).flatten(), chunks,
        starts + len(CHUNK) - 2, targets, torch.ones(len(chunks)),
    )  # fmt: skip


@pytest.mark.parametrize("by", [-1.5, 0.7])
@torch.no_grad()
def test_only_the_logit_of_speaking_moves_and_everywhere_alike(by: float) -> None:
    torch.manual_seed(5)
    network, batch = Network(), noise()
    weights = network.state_dict()
    leant, uneven = leaning.lean(weights, [batch], by)
    logits = []
    for parameters in (weights, leant):
        network.load_state_dict(parameters)
        hook = network.lm.lm_head.register_forward_hook(lambda *call: logits.append(call[-1]))
        network.losses(batch)
        hook.remove()
    moved = logits[1] - logits[0]
    speaking = moved[:, TOKEN_IDS.text_begin].clone()
    moved[:, TOKEN_IDS.text_begin] = 0
    assert not moved.any()
    assert speaking.mean() == pytest.approx(by, rel=0.05)
    assert speaking.std() == pytest.approx(uneven, rel=0.05)
    assert uneven < 0.2 * abs(by)
