"""Packed and int8 layers against the plain layers that they stand for."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audio_interaction_cli.abilities import packs
from audio_interaction_cli.linear import (
    Int8Linear,
    PackedLinear,
    expect_int8,
    head_rows,
    keep_exact,
    linear_layers,
    multiply,
    prepare_layer,
    weight_bytes,
)
from audio_interaction_cli.rotation import rotate

CPU = torch.device("cpu")
SHAPES = [(2_560, 2_048), (2_048, 11_008), (5_120, 1_280), (1_280, 5_120), (50, 96)]  # the full model's, and others


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(11)


def prepared(layer: nn.Linear, *, int8: bool = False) -> nn.Module:
    holder = nn.Sequential(copy.deepcopy(layer))
    prepare_layer(holder, "0", int8=int8)
    return holder[0]


@torch.no_grad()
def relative_error(layer: nn.Module, exact: nn.Linear, x: torch.Tensor) -> float:
    expected = x.double() @ exact.weight.double().T + (0 if exact.bias is None else exact.bias.double())
    return float((layer(x).double() - expected).norm() / expected.norm())


def with_outliers(rows: int, channels: int, outliers: int) -> torch.Tensor:
    """Normal activations in which a few channels are a hundred times the others."""
    x = torch.randn(rows, channels)
    x[:, torch.randperm(channels)[:outliers]] *= 100
    return x.bfloat16().float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [(1,), (13,), (2, 20), (104,)])
@pytest.mark.parametrize("inputs", [96, 128])  # with the second our own kernels do it
def test_packed_layers_give_what_plain_ones_do(dtype: torch.dtype, rows: tuple[int, ...], inputs: int) -> None:
    plain = nn.Linear(inputs, 192).to(dtype)
    packed = prepared(plain)
    assert isinstance(packed, PackedLinear)
    x = torch.randn(*rows, inputs).to(dtype)
    torch.testing.assert_close(packed(x), plain(x), rtol=1.6e-2 if dtype is torch.bfloat16 else 1.3e-6, atol=2e-3)
    for layer in (packed, plain):
        assert weight_bytes(nn.Sequential(layer)) == dtype.itemsize * (inputs + 1) * 192


def test_what_cannot_be_packed_stays() -> None:
    plain = nn.Linear(8, 8).half()
    assert isinstance(prepared(plain), nn.Linear)
    assert not packs(torch.float32, torch.device("meta"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outliers", [0, 1, 4, 16])
def test_int8_is_exact_enough_whatever_channel_stands_out(shape: tuple[int, int], outliers: int) -> None:
    outputs, inputs = shape
    plain = nn.Linear(inputs, outputs, bias=outputs % 20 == 0).bfloat16().float()
    x = with_outliers(13, inputs, outliers)
    assert relative_error(prepared(plain, int8=True), plain, x) <= 0.015


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 30), st.sampled_from([1e-6, 1.0, 1e4]))
@settings(max_examples=60, deadline=None)
def test_int8_of_any_shape_and_size(inputs: int, outputs: int, rows: int, size: float) -> None:
    plain = nn.Linear(inputs, outputs, bias=False)
    layer = prepared(plain, int8=True)
    x = torch.randn(rows, inputs) * size
    assert (layer(x) - plain(x)).norm() <= 0.02 * x.norm() * plain.weight.norm()
    assert torch.equal(layer(torch.zeros(rows, inputs)), torch.zeros(rows, outputs))


def test_rows_do_not_feel_each_other() -> None:
    layer = prepared(nn.Linear(256, 64), int8=True)
    x = torch.randn(5, 256)
    louder = torch.cat([x[:2] * 1_000, x[2:]])
    assert torch.equal(layer(louder)[2:], layer(x)[2:])


def test_layers_that_share_an_input_share_its_rounding() -> None:
    layers = [prepared(nn.Linear(64, outputs), int8=True) for outputs in (32, 48)]
    x = torch.randn(3, 7, 64)
    for together, alone in zip(multiply(x, *layers), (layer(x) for layer in layers), strict=True):
        assert torch.equal(together, alone)


@given(st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_rotations_are_orthogonal(channels: int) -> None:
    x = torch.randn(4, channels)
    rotated = rotate(x)
    torch.testing.assert_close(rotate(rotated, back=True), x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rotated @ rotated.T, x @ x.T, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("channels", [1_280, 2_048, 5_120, 11_008])
def test_rotations_spread_every_channel_over_all(channels: int) -> None:
    largest = rotate(torch.eye(channels)[:: channels // 64]).abs().max()
    assert largest <= 1.5 / channels**0.5  # all alike would be 1


def test_an_empty_int8_layer_takes_the_numbers_of_another() -> None:
    plain = nn.Sequential(nn.Linear(96, 40), nn.GELU(), nn.Linear(40, 8, bias=False))
    keep_exact(plain)
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(96, 40), nn.GELU(), nn.Linear(40, 8, bias=False))
    expect_int8(empty)
    rounded = {path: Int8Linear.of(layer) for path, layer in linear_layers(plain) if isinstance(layer, nn.Linear)}
    stored = {f"{path}.{name}": p for path, layer in rounded.items() for name, p in layer.named_parameters()}
    assert set(empty.state_dict()) == set(stored)
    empty.load_state_dict(stored, assign=True)
    for path in ("0", "2"):
        prepare_layer(empty, path)
        prepare_layer(plain, path, int8=True)
    x = torch.randn(5, 96)
    assert torch.equal(empty(x), plain(x))


def test_rows_of_the_head() -> None:
    head = nn.Linear(96, 50, bias=False)
    assert torch.equal(head_rows(head, [3, 1]), head.weight[[3, 1]])
    rounded = head_rows(Int8Linear.of(head), [3, 1])
    assert 0 < (rounded - head.weight[[3, 1]]).norm() / head.weight[[3, 1]].norm() < 0.01
