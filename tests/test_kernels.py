"""Our own matrix products against torch's, exact in what they sum."""

import math

import pytest
import torch

from audio_interaction_cli import kernels, linear
from audio_interaction_cli.forms import FORMS, Form, form
from audio_interaction_cli.kernels import Matrix, Products
from audio_interaction_cli.rotation import rotate

ROWS = [1, 2, 6, 7, 13, 14, 20, 26, 27, 53, 104]  # around all ways of sharing registers


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


HERE = [form for form in FORMS if form.runs]  # the fastest, and those that it is to be told from
FLOATING, INTEGER = ([form for form in HERE if form.integer is integer] for integer in (False, True))


def test_this_processor_multiplies() -> None:
    assert FLOATING, "these tests need Linux and a processor with AVX2"
    assert INTEGER
    assert (form(torch.bfloat16), form(torch.int8)) == (FLOATING[0], INTEGER[0])


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("form", FLOATING, ids=lambda form: form.name)
def test_bfloat16_sums_are_those_of_the_inputs_as_they_are_given(form: Form, rows: int) -> None:
    x, weight, bias = torch.randn(rows, 192), torch.randn(320, 192).bfloat16(), torch.randn(320)
    assert kernels.fits(192, 320)
    (y,) = Products(x, [Matrix(form, kernels.panels(form, weight), bias)]).run()
    given = x if form.inputs == 1 else x.bfloat16()
    torch.testing.assert_close(y.double(), given.double() @ weight.double().T + bias, atol=1e-4, rtol=1e-5)


def int8_matrix(form: Form, inputs: int, outputs: int) -> tuple[Matrix, torch.Tensor]:
    """A random one, and its weights, rotated as its inputs are."""
    layer = linear.Int8Linear.of(torch.nn.Linear(inputs, outputs))
    stored = layer.weight.double() * layer.weight_scale.double()[:, None]
    panels = kernels.panels(form, layer.weight.detach())
    matrix = layer.pack().matrix
    assert matrix
    return matrix._replace(form=form, panels=panels), stored


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("inputs", [256, 1_280, 11_008])
@pytest.mark.parametrize("form", INTEGER, ids=lambda form: form.name)
def test_int8_sums_are_those_of_rotated_and_rounded_inputs(form: Form, rows: int, inputs: int) -> None:
    matrix, stored = int8_matrix(form, inputs, 128)
    x = torch.randn(rows, inputs)
    (y,) = Products(x, [matrix]).run()
    rotated = rotate(x.double())
    scale = rotated.abs().amax(1, keepdim=True) / 127
    expected = (rotated / scale).round() * scale @ stored.T + matrix.bias
    # A number that lies between two steps may be rounded to either.
    assert (y - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("form", HERE, ids=lambda form: form.name)
def test_a_row_is_the_same_whatever_is_beside_it_and_however_many_threads(form: Form) -> None:
    if form.integer:
        matrix, _ = int8_matrix(form, 256, 192)
    else:
        matrix = Matrix(form, kernels.panels(form, torch.randn(192, 256).bfloat16()), torch.randn(192))
    x, threads = torch.randn(53, 256), torch.get_num_threads()
    (together,) = Products(x, [matrix]).run()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            for first, last in ((0, 1), (1, 14), (14, 53)):
                (alone,) = Products(x[first:last], [matrix]).run()
                assert torch.equal(alone, together[first:last])
    finally:
        torch.set_num_threads(threads)


def test_matrices_of_one_input_together_and_again() -> None:
    matrices = [int8_matrix(INTEGER[0], 256, outputs)[0] for outputs in (64, 192)]
    x = torch.randn(13, 256)
    products = Products(x, matrices)
    together = [y.clone() for y in products.run()]
    again = products.again()
    for _ in range(20):
        for y in products.y:
            y.zero_()
        again()
    for matrix, y, repeated in zip(matrices, together, products.y, strict=True):
        assert torch.equal(Products(x, [matrix]).run()[0], y)
        assert torch.equal(repeated, y)


def test_rows_of_zeros_and_of_all_sizes() -> None:
    matrix, _ = int8_matrix(INTEGER[0], 256, 64)
    x = torch.randn(4, 256)
    x[1] = 0
    y = Products(x * torch.tensor([[1.0], [1.0], [1e20], [1e-20]]), [matrix]).run()[0] - matrix.bias
    assert torch.equal(y[1], torch.zeros(64))
    (plain,) = Products(x, [matrix._replace(bias=torch.zeros(64))]).run()
    torch.testing.assert_close(y[2] / 1e20, plain[2], rtol=1e-4, atol=1e-4)
    (small,) = Products(x[3:] * 1e-20, [matrix._replace(bias=torch.zeros(64))]).run()
    torch.testing.assert_close(small[0] * 1e20, plain[3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs"), [(96, 64), (64, 64), (256, 50), (math.prod((16, 17)), 64)])
def test_what_does_not_fit_is_multiplied_otherwise(inputs: int, outputs: int) -> None:
    layer = linear.Int8Linear.of(torch.nn.Linear(inputs, outputs)).pack()
    assert layer.matrix is None
    assert layer(torch.randn(3, inputs)).shape == (3, outputs)
