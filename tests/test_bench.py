import json

import pytest
import torch

from audio_interaction_cli import bench
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import UsageError
from audio_interaction_cli.linear import Linear
from tests.conftest import Ai


def test_the_last_line_is_one_object_with_everything(ai: Ai) -> None:
    done = ai("bench", "--positions", "16,64")
    assert done.status == 0
    table, _, last = done.out.rstrip("\n").rpartition("\n")
    figures = json.loads(last)
    assert figures["schema"] == 1
    assert (figures["device"], figures["dtype"], figures["quantize"]) == ("cpu", "float32", "none")
    assert list(figures["positions"]) == ["16", "64"]
    for times in figures["positions"].values():
        parts_ms = times["mel_ms"] + times["tower_ms"] + times["lm_ms"]
        assert times["step_ms"] == pytest.approx(parts_ms, abs=0.01)
        assert min(times.values()) > 0
    floors = ("floor", "plain_floor")
    expected = {f"{work}_to_{floor}" for work in ("step", "decode") for floor in floors} | {"step_64_to_16"}
    assert figures["ratios"].keys() == expected
    assert all(figures[floor][work] > 0 for floor in floors for work in ("step_ms", "decode_ms"))
    assert figures["offline"]["speedup"] == pytest.approx(
        figures["offline"]["sequential_rtf"] / figures["offline"]["speculative_rtf"], rel=0.01
    )
    assert "behind positions" in table
    one = ai("bench", "--positions", "1000000,16", "--json")
    assert one.out.count("\n") == 1
    assert json.loads(one.out)["ratios"]["step_1000000_to_16"] is None
    assert "nothing behind 1000000 positions" in one.err


def test_impossible_positions_are_refused(ai: Ai) -> None:
    for positions in ("", "64,", "a", "0", "-1", "1e3"):
        assert ai("bench", f"--positions={positions}").status == 2
    assert "window has only" in ai("bench", "--positions", "1000000").err


def test_the_floor_holds_every_weight_once(engine: Engine) -> None:
    """Its products read what a step reads: all matrices of the layers, of the tower, and for a token of the head."""

    def weights(work: list[tuple[Linear | torch.Tensor, int]]) -> int:
        sizes = (f.numel() if isinstance(f, torch.Tensor) else f.in_features * f.out_features for f, _ in work)
        return sum(sizes)

    read = bench.products(engine, 13, head=False)
    layers = [p for name, p in engine.lm.transformer.h.named_parameters() if p.ndim == 2]
    tower = [p for p in engine.tower.parameters() if p.ndim > 1]
    assert weights(read) == sum(p.numel() for p in (*layers, *tower))
    one = bench.products(engine, 1, head=True)
    assert weights(one) == sum(p.numel() for p in (*layers, engine.lm.lm_head.weight))
    assert {rows for _, rows in one} == {1}


def test_unknown_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown shape 4b"):
        bench.synthetic("4b")


@pytest.mark.parametrize(("dtype", "quantize"), [("float32", "none"), ("bfloat16", "none"), ("auto", "int8")])
def test_a_synthetic_model_computes(monkeypatch: pytest.MonkeyPatch, dtype: str, quantize: str) -> None:
    small = {**bench.LM_3B, "n_layer": 2, "n_embd": 64, "intermediate_size": 96, "n_head": 4, "head_size": 16}
    tower = {**bench.TOWER_3B, "d_model": 40, "encoder_layers": 1, "encoder_ffn_dim": 64, "output_dim": 64}
    monkeypatch.setitem(bench.SHAPES, "small", (small, tower))
    engine = bench.synthetic("small", "cpu", dtype, quantize)
    assert all(torch.isfinite(p).all() for p in (*engine.lm.parameters(), *engine.tower.parameters()))
    figures = bench.measure(engine, 0.0, [64, 3_900])
    assert list(figures["positions"]) == ["64", "3900"]
    assert figures["quantize"] == quantize
    linears = 2 * (3 * 64 * 96 + 2 * 64 * 64 + 2 * 64 * 2 * 16) + 151_936 * 64 + 4 * 40 * 40 + 2 * 40 * 64 + 40 * 64
    others = 151_936 * 64 + 40 * 3 * (128 + 40)
    bytes_each = 4 if engine.dtype is torch.float32 else 2
    whole = linears * (1 if quantize == "int8" else bytes_each) + others * bytes_each
    assert whole < figures["weights_bytes"] < 1.1 * whole  # beside norms, biases and scales
