"""What is computed between products, attention, and whole passes through layers, against the same by torch."""

import ctypes
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from audio_interaction_cli import flash, passes, pointwise
from audio_interaction_cli.forms import form
from audio_interaction_cli.linear import keep_exact, linear_layers, prepare_layer
from audio_interaction_cli.lm import Cache, LanguageModel
from audio_interaction_cli.machine import Tape
from audio_interaction_cli.memory import room_for_positions
from audio_interaction_cli.shape import LmConfig
from audio_interaction_cli.steps import Steps
from audio_interaction_cli.tower import Tower, read_config

CAPACITY = 300
LM_FIELDS = {
    "n_layer": 2, "n_embd": 128, "n_head": 4, "n_query_groups": 2, "head_size": 32, "intermediate_size": 192,
    "padded_vocab_size": 64, "norm_eps": 1e-6, "rope_base": 1e6,
}  # fmt: skip
TOWER_FIELDS = {
    "num_mel_bins": 128, "d_model": 128, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 192,
    "output_dim": 64, "activation_function": "gelu", "scale_embedding": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(4)
    assert form(torch.bfloat16), "these tests need Linux and a processor with AVX2"


def played(record: Callable[[Tape], object]) -> None:
    tape = Tape()
    record(tape)
    tape.player()()


def test_gates_and_gelu_over_all_sizes() -> None:
    x = torch.cat([torch.linspace(-40, 40, 4_096), torch.randn(4_096), torch.tensor([0.0, -0.0, 1e30, -1e30] * 4)])
    other = torch.randn(len(x))
    gated, bent = x.clone(), x.clone()
    played(lambda tape: pointwise.gate(tape, gated, other))
    played(lambda tape: pointwise.gelu(tape, bent))
    torch.testing.assert_close(gated.double(), F.silu(x.double()) * other.double(), rtol=2e-6, atol=1e-30)
    torch.testing.assert_close(bent.double(), F.gelu(x.double()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.RMSNorm, nn.LayerNorm])
@pytest.mark.parametrize("epsilon", [1e-6, None])
def test_norms_of_some_rows(kind: type[nn.Module], epsilon: float | None) -> None:
    if kind is nn.LayerNorm and epsilon is None:
        epsilon = 1e-5
    norm = kind(192, eps=epsilon)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x, y = torch.randn(7, 192) * 3 + 1, torch.full((8, 192), 5.0)
    x[3] *= 1e-4
    played(lambda tape: pointwise.normalise(tape, norm, x, 7, y))  # type: ignore[arg-type]
    torch.testing.assert_close(y[:7], norm(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(y[7], torch.full((192,), 5.0))


def attended(
    x: torch.Tensor, start: int, cache: tuple[torch.Tensor, torch.Tensor], angles: torch.Tensor, *, causal: bool = True
) -> torch.Tensor:
    """What `flash` makes of heads [T, heads + 2 groups, size]; angles [T, size / 2]."""
    (count, heads, size), (keys, values) = x.shape, cache
    cos, sin = angles.cos(), angles.sin()
    turn = torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)
    y = torch.full((count, (heads - 2 * len(keys)) * size), torch.nan)
    played(
        lambda tape: flash.attend(
            tape, x.flatten(1), count, turn, keys, values, ctypes.c_int64(start), y, causal=causal
        )
    )  # fmt: skip
    return y


def room(groups: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A cache's keys and values, of which no more than is in use may be looked at."""
    behind = room_for_positions(CAPACITY)
    keys = torch.full((groups, size, behind), torch.nan, dtype=torch.bfloat16).transpose(1, 2)
    values = torch.full((groups, behind, size), torch.nan, dtype=torch.bfloat16)
    return keys[:, :CAPACITY], values[:, :CAPACITY]


def expected(
    x: torch.Tensor, start: int, cache: tuple[torch.Tensor, torch.Tensor], angles: torch.Tensor, *, causal: bool = True
) -> torch.Tensor:
    """The same in float64, of keys and values that are in the cache by now."""
    (count, _, size), (keys, values) = x.shape, cache
    groups, end = len(keys), start + count
    first, second = x[:, : -2 * groups].double().chunk(2, -1)
    cos, sin = angles.double().cos()[:, None], angles.double().sin()[:, None]
    q = torch.cat([first * cos - second * sin, second * cos + first * sin], -1).transpose(0, 1)
    shared = len(q) // groups
    scores = q @ keys[:, :end].double().repeat_interleave(shared, 0).transpose(1, 2) / size**0.5
    if causal:
        scores += torch.full((count, end), -torch.inf, dtype=torch.float64).triu(start + 1)
    y = scores.softmax(-1) @ values[:, :end].double().repeat_interleave(shared, 0)
    return y.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("heads", "groups", "size"), [(16, 2, 128), (6, 2, 32), (3, 3, 64)])
@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 40), (50, 13), (63, 1), (64, 13), (115, 26), (200, 100)])
def test_attention(start: int, count: int, heads: int, groups: int, size: int, threads: int) -> None:
    cache = room(groups, size)
    for part in cache:
        part[:, :start] = torch.randn(groups, start, size)
    before = [part.clone() for part in cache]
    x, angles = torch.randn(count, heads + 2 * groups, size) * 2, torch.rand(count, size // 2) * 7
    used = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        y = attended(x, start, cache, angles)
    finally:
        torch.set_num_threads(used)
    for part, old in zip(cache, before, strict=True):
        assert torch.equal(part[:, :start], old[:, :start])
        assert part[:, start + count :].isnan().all()
    torch.testing.assert_close(cache[1][:, start : start + count], x[:, -groups:].transpose(0, 1).bfloat16())
    exact = expected(x, start, cache, angles)
    assert (y - exact).norm() <= 0.01 * exact.norm()
    new = cache[0][:, start : start + count].double().norm(dim=-1)  # rotation leaves lengths as they are
    torch.testing.assert_close(new, x[:, heads:-groups].transpose(0, 1).double().norm(dim=-1), rtol=0.01, atol=0)


def test_attention_that_sees_all() -> None:
    cache, x, angles = room(4, 32), torch.randn(20, 12, 32), torch.zeros(20, 16)
    y = attended(x, 0, cache, angles, causal=False)
    exact = expected(x, 0, cache, angles, causal=False)
    assert (y - exact).norm() <= 0.01 * exact.norm()


def test_scores_of_all_sizes() -> None:
    """A score far above all others takes everything, wherever it is; far below, nothing."""
    cache, x = room(1, 32), torch.zeros(1, 3, 32)
    cache[0][:, :200], cache[1][:, :200] = 0, torch.randn(200, 32)
    cache[0][0, 150, 0] = 1e4
    for sign, seen in ((1, cache[1][0, 150:151]), (-1, torch.cat([cache[1][0, :150], cache[1][0, 151:200]]))):
        x[0, 0, 0] = sign * 1e3
        y = attended(x, 200, cache, torch.zeros(1, 16))
        exact = seen.double() if sign > 0 else torch.cat([seen.double(), torch.zeros(1, 32)]).mean(0, keepdim=True)
        torch.testing.assert_close(y.double(), exact, rtol=0.01, atol=0.002)


def test_a_position_sees_the_same_whatever_is_asked_beside_it() -> None:
    x, angles, together, alone = torch.randn(40, 20, 64), torch.rand(40, 32), room(2, 64), room(2, 64)
    at_once = attended(x, 0, together, angles)
    one_by_one = [attended(x[n : n + 1], n, alone, angles[n : n + 1]) for n in range(len(x))]
    assert torch.equal(at_once, torch.cat(one_by_one))


def prepared(module: nn.Module, *, int8: bool) -> None:
    """As loading leaves a model in bfloat16 or int8."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.1)
    module.bfloat16()
    keep_exact(module)
    for path, _ in list(linear_layers(module)):
        prepare_layer(module, path, int8=int8)


@pytest.mark.parametrize("int8", [False, True])
@torch.inference_mode()
def test_a_pass_through_a_decoder_is_what_its_layers_compute(int8: bool) -> None:
    lm = LanguageModel(LmConfig.read(LM_FIELDS))
    prepared(lm, int8=int8)
    caches = [Cache(lm.config, CAPACITY, torch.device("cpu"), torch.bfloat16) for _ in range(2)]
    step = Steps(lm, caches[1])
    for count in (13, 1, 1, 13, 40, 13, 13):
        x = torch.randn(count, 128)
        by_layers, played = lm(x, caches[0]), step(x)
        assert caches[0].length == caches[1].length
        assert (played - by_layers).norm() <= (0.03 if int8 else 0.01) * by_layers.norm()
    caches[1].crop(20)
    caches[0].crop(20)
    x = torch.randn(13, 128)
    assert (step(x) - lm(x, caches[0])).norm() <= 0.03 * lm(x, caches[0]).norm()
    with pytest.raises(ValueError, match="do not fit a cache of 300"):
        step(torch.randn(CAPACITY, 128))


@torch.inference_mode()
def test_passes_are_played_where_they_can_be_and_kept_where_they_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[int] = []
    make = passes.Decoding.__init__

    def count_made(self: passes.Decoding, *given: object) -> None:
        recorded.append(given[-1])  # type: ignore[arg-type]
        make(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(passes.Decoding, "__init__", count_made)
    for fitting, counts in ((True, [13, 1, 40, 40]), (False, [])):
        lm = LanguageModel(LmConfig.read(LM_FIELDS if fitting else {**LM_FIELDS, "intermediate_size": 100}))
        prepared(lm, int8=False)
        step = Steps(lm, Cache(lm.config, CAPACITY, torch.device("cpu"), torch.bfloat16))
        recorded.clear()
        for count in (13, 1, 40, 13, 1, 40):
            step(torch.randn(count, 128))
        assert recorded == counts


@pytest.mark.parametrize("int8", [False, True])
@torch.inference_mode()
def test_a_pass_through_an_encoder_is_what_its_layers_compute(int8: bool) -> None:
    tower = Tower(read_config(TOWER_FIELDS))
    prepared(tower, int8=int8)
    mel = torch.randn(8, 128, 40).to(tower.conv1.weight)
    played = tower(mel)
    assert tower._recordable
    one_by_one = torch.cat([tower(one[None]) for one in mel])
    assert torch.equal(played, one_by_one)
    tower._recordable = False
    by_layers = tower(mel)
    assert (played - by_layers).norm() <= (0.03 if int8 else 0.01) * by_layers.norm()
