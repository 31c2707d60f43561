"""Tower and language model against transformers' own, on random weights; and fast against slow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.lm import Cache, LanguageModel, _NewPositions, _rows_from_interleaved
from audio_interaction_cli.shape import LmConfig
from audio_interaction_cli.steps import Steps
from audio_interaction_cli.tower import Tower, read_config

CPU = torch.device("cpu")
TOWER_FIELDS: dict[str, Any] = {
    "num_mel_bins": 128, "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
    "output_dim": 48, "n_window": 100, "max_source_positions": 1500, "activation_function": "gelu",
}  # fmt: skip
LM_FIELDS = {
    "block_size": 4096, "vocab_size": 90, "padded_vocab_size": 96, "n_layer": 3, "n_embd": 48, "n_head": 6,
    "head_size": 8, "n_query_groups": 2, "intermediate_size": 80, "rotary_percentage": 1.0, "rope_base": 1000000,
    "attn_bias": True, "bias": False, "lm_head_bias": False, "norm_class_name": "RMSNorm", "norm_eps": 1e-6,
    "mlp_class_name": "LLaMAMLP", "parallel_residual": False, "scale_embeddings": False,
}  # fmt: skip


def randomise(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    module.requires_grad_(False)


@pytest.fixture(scope="module")
def tower() -> Tower:
    tower = Tower(read_config(TOWER_FIELDS))
    randomise(tower, 1)
    return tower


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    lm = LanguageModel(LmConfig.read(LM_FIELDS))
    randomise(lm, 2)
    return lm


def run(lm: LanguageModel, x: torch.Tensor, *lengths: int) -> torch.Tensor:
    """Hidden states of x [T, D], fed in pieces of these lengths."""
    cache = Cache(lm.config, 4_096, CPU, torch.float32)
    pieces = x.split([*lengths, len(x) - sum(lengths)])
    return torch.cat([lm(piece, cache) for piece in pieces if len(piece)])


def test_tower_equals_transformers(tower: Tower) -> None:
    from transformers import Qwen2_5OmniAudioEncoderConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

    fields = {**TOWER_FIELDS, "n_window": 20, "attn_implementation": "eager"}
    config = Qwen2_5OmniAudioEncoderConfig(**fields)
    reference = Qwen2_5OmniAudioEncoder(config).eval()
    missing, unexpected = reference.load_state_dict(tower.state_dict(), strict=False)
    assert missing == ["audio_bos_eos_token.weight"]
    assert not unexpected
    mel = torch.randn(7, 128, 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        columns = torch.cat(list(mel), dim=1)
        expected = reference(columns, feature_lens=torch.tensor([columns.shape[1]])).last_hidden_state
    torch.testing.assert_close(tower(mel).flatten(0, 1), expected, atol=1e-4, rtol=0)


def test_tower_batched_equals_single(tower: Tower) -> None:
    mel = torch.randn(5, 128, 40, generator=torch.Generator().manual_seed(4))
    single = torch.cat([tower(chunk[None]) for chunk in mel])
    torch.testing.assert_close(tower(mel), single, atol=1e-5, rtol=1e-5)


def test_lm_equals_transformers(lm: LanguageModel) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    c = lm.config
    config = Qwen2Config(
        vocab_size=c.padded_vocab_size, hidden_size=c.n_embd, intermediate_size=c.intermediate_size,
        num_hidden_layers=c.n_layer, num_attention_heads=c.n_head, num_key_value_heads=c.n_query_groups,
        rms_norm_eps=c.norm_eps, rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
        tie_word_embeddings=False,
    )  # fmt: skip
    reference = Qwen2ForCausalLM(config).eval()
    state = lm.state_dict()
    theirs = {"model.embed_tokens.weight": state["transformer.wte.weight"],
              "model.norm.weight": state["transformer.ln_f.weight"], "lm_head.weight": lm.lm_head.weight}  # fmt: skip
    names = {"norm_1": "input_layernorm", "norm_2": "post_attention_layernorm", "attn.proj": "self_attn.o_proj",
             "mlp.fc_1": "mlp.gate_proj", "mlp.fc_2": "mlp.up_proj", "mlp.proj": "mlp.down_proj"}  # fmt: skip
    for i in range(c.n_layer):
        for ours, other in names.items():
            theirs[f"model.layers.{i}.{other}.weight"] = state[f"transformer.h.{i}.{ours}.weight"]
        for kind in ("weight", "bias"):
            qkv = state[f"transformer.h.{i}.attn.qkv.{kind}"]
            parts = qkv.split([48, 16, 16])
            for name, part in zip("qkv", parts, strict=True):
                theirs[f"model.layers.{i}.self_attn.{name}_proj.{kind}"] = part
    reference.load_state_dict(theirs)
    ids = torch.randint(0, 90, (1, 300), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = reference(ids).logits[0]
    got = lm.logits(run(lm, lm.embed(ids[0].tolist())))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@given(lengths=st.lists(st.integers(0, 12), max_size=5))
@settings(max_examples=25, deadline=None)
def test_lm_cached_equals_uncached(lm: LanguageModel, lengths: list[int]) -> None:
    x = torch.randn(60, 48, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(run(lm, x, *lengths), run(lm, x), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_of_fixed_shape_equal_free_ones(dtype: torch.dtype) -> None:
    """What a GPU records, computed here each time."""
    lm = LanguageModel(LmConfig.read(LM_FIELDS))
    randomise(lm, 3)
    lm.to(dtype)
    x = torch.randn(60, 48, generator=torch.Generator().manual_seed(6)).to(dtype)
    free, fixed = (Cache(lm.config, 64, CPU, dtype) for _ in range(2))
    fixed.keys.zero_()
    fixed.values.zero_()
    made: list[object] = []

    def again(work: Callable[[], None]) -> Callable[[], None]:
        made.append(work)
        return work

    steps = Steps(lm, fixed, again)
    tolerance = 1e-5 if dtype is torch.float32 else 5e-2
    with torch.inference_mode():
        for start, end in [(0, 7), (7, 20), (20, 21), (21, 34), (34, 35), (35, 39), (39, 52)]:
            expected, got = lm(x[start:end], free), steps(x[start:end])
            torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)
        fixed.crop(10)
        free.crop(10)
        torch.testing.assert_close(steps(x[20:33]), lm(x[20:33], free), atol=tolerance, rtol=tolerance)
        assert len(made) == 2  # a chunk and a token, each once
        assert fixed.length == free.length == 23
        with pytest.raises(ValueError, match="fit"):
            [steps(x[:13]) for _ in range(4)]


def test_lm_cropped_cache_has_forgotten(lm: LanguageModel) -> None:
    x = torch.randn(40, 48, generator=torch.Generator().manual_seed(7))
    cache = Cache(lm.config, 64, CPU, torch.float32)
    lm(x[:30], cache)
    cache.crop(10)
    torch.testing.assert_close(lm(x[30:], cache), run(lm, torch.cat([x[:10], x[30:]]))[10:], atol=2e-4, rtol=2e-4)
    with pytest.raises(ValueError, match="crop"):
        cache.crop(21)
    with pytest.raises(ValueError, match="fit"):
        lm(torch.zeros(64, 48), cache)


RUNS = [range(40), range(700, 1300), range(2500, 2990)]  # beyond 2,048 positions share angles
KEPT = [position for run in RUNS for position in run]


def test_with_one_layer_a_cache_moved_together_equals_a_fresh_one() -> None:
    lm = LanguageModel(LmConfig.read(LM_FIELDS | {"n_layer": 1}))
    randomise(lm, 2)
    x = torch.randn(3_000, 48, generator=torch.Generator().manual_seed(8))
    moved, fresh = (Cache(lm.config, 3_000, CPU, torch.float32) for _ in range(2))
    lm(x, moved)
    moved.keep(RUNS)
    lm(x[KEPT], fresh)
    assert moved.length == fresh.length == 1_130
    for ours, theirs in ((moved.keys, fresh.keys), (moved.values, fresh.values)):
        torch.testing.assert_close(ours[:, :, :1_130], theirs[:, :, :1_130], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lm(x[:20], moved), lm(x[:20], fresh), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_kept_keys_are_rotated_and_values_are_not(lm: LanguageModel, dtype: torch.dtype, error: float) -> None:
    cache = Cache(lm.config, 3_000, CPU, dtype)
    generator = torch.Generator().manual_seed(9)
    for tensor in (cache.keys, cache.values):
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    cache.length = 3_000
    old_keys, old_values = cache.keys.clone(), cache.values.clone()
    cache.keep(RUNS)
    shift = torch.arange(1_130).half().double() - torch.tensor(KEPT).half().double()
    frequencies = lm.config.rope_base ** -(torch.arange(0, 8, 2).double() / 8)
    turn = torch.polar(torch.ones(1_130, 4).double(), shift[:, None] * frequencies)
    pairs = torch.complex(*old_keys[:, :, KEPT].double().chunk(2, dim=-1)) * turn
    by_hand = torch.cat([pairs.real, pairs.imag], dim=-1)
    torch.testing.assert_close(cache.keys[:, :, :1_130].double(), by_hand, atol=error, rtol=error)
    assert torch.equal(cache.values[:, :, :1_130], old_values[:, :, KEPT])
    assert torch.equal(cache.keys[:, :, :40], old_keys[:, :, :40])  # not even rounded
    cache.keep([range(cache.length)])
    assert cache.length == 1_130
    cache.keep([])
    assert cache.length == 0


@pytest.mark.parametrize("runs", [[range(5, 11)], [range(4, 6), range(2)], [range(4), range(3, 6)], [range(-1, 4)]])
def test_runs_that_are_not_there_cannot_be_kept(lm: LanguageModel, runs: list[range]) -> None:
    cache = Cache(lm.config, 16, CPU, torch.float32)
    cache.length = 10
    with pytest.raises(ValueError, match="keep"):
        cache.keep(runs)


def test_positions_are_rounded_to_float16() -> None:
    config = LmConfig.read(LM_FIELDS)
    cos, sin = _NewPositions.at(config, 0, 4_096, torch.zeros(1)).turn
    torch.testing.assert_close(cos[2_049], cos[2_048])  # 2,049 rounds to the even number below
    torch.testing.assert_close(sin[2_051], sin[2_052])
    assert not torch.allclose(cos[2_047], cos[2_048])
    torch.testing.assert_close(sin[2_047, 4], torch.tensor(2_047.0).sin())  # the second of its pair


def test_legacy_rows_are_put_in_order() -> None:
    config = LmConfig.read(LM_FIELDS)  # 3 query heads and one key and value head in each of 2 groups, 8 rows each
    ordered = [f"{kind}{n}" for kind, heads in (("q", 6), ("k", 2), ("v", 2)) for n in range(heads)]
    interleaved = ["q0", "q1", "q2", "k0", "v0", "q3", "q4", "q5", "k1", "v1"]
    rows = _rows_from_interleaved(config)
    assert [interleaved[row // 8] for row in rows[::8].tolist()] == ordered
    assert sorted(rows.tolist()) == list(range(80))


@pytest.mark.parametrize(
    ("field", "value"),
    [("norm_class_name", "LayerNorm"), ("rotary_percentage", 0.5), ("sliding_window_size", 1024), ("n_expert", 8),
     ("parallel_residual", True), ("attn_bias", False), ("attention_logit_softcapping", 50.0), ("norm_qk", True),
     ("rope_adjustments", {"factor": 8.0}), ("mlp_class_name", "GemmaMLP"),
     ("n_layer", 0), ("n_layer", 10**6), ("n_embd", 10**12), ("n_layer", "three"),
     ("n_embd", None), ("n_embd", "48"), ("n_head", 5), ("n_head", 0), ("n_query_groups", True),
     ("norm_eps", "x")],
)  # fmt: skip
def test_a_configuration_that_is_not_implemented_is_refused(field: str, value: object) -> None:
    for head_size in (LM_FIELDS["head_size"], None):  # then what follows from the others
        with pytest.raises(CheckpointError, match=r"model_config\.yaml"):
            LmConfig.read({**LM_FIELDS, "head_size": head_size, field: value})


def test_block_size_may_be_absent() -> None:
    assert LmConfig.read({k: v for k, v in LM_FIELDS.items() if k != "block_size"}).block_size == 4_096


@pytest.mark.parametrize(("field", "value"), [("num_mel_bins", 80), ("activation_function", "relu"), ("d_model", 33),
                                              ("d_model", 2), ("scale_embedding", True),
                                              ("encoder_layers", "two"), ("output_dim", None),
                                              ("encoder_ffn_dim", True)])  # fmt: skip
def test_a_tower_of_another_kind_is_refused(field: str, value: object) -> None:
    complete = {**TOWER_FIELDS, "scale_embedding": False}
    for fields in (TOWER_FIELDS, complete):  # what is left out, transformers knows
        assert read_config(fields) == read_config(complete)
        with pytest.raises(CheckpointError, match="tower"):
            read_config({**fields, field: value})
