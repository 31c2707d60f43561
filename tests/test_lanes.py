"""What `machine` compiles, with registers of either width and in forms that this processor may lack."""

import subprocess
import sys

import pytest

TESTS = ("tests/test_kernels.py", "tests/test_passes.py", "tests/test_linear.py")


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 16])
def test_every_width_and_form_computes_the_same(lanes: int) -> None:
    command = [sys.executable, "-m", "tests.lanes", str(lanes), *TESTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr
    assert " passed" in done.stdout
