"""What `machine` compiles, with registers of the other width than this processor's."""

import os
import subprocess
import sys

import pytest

from audio_interaction_cli.machine import LANES

TESTS = ("tests/test_kernels.py", "tests/test_passes.py", "tests/test_linear.py")


@pytest.mark.slow
def test_the_other_width_computes_the_same() -> None:
    narrow = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}  # which torch then tells of the processor
    command, environment = (["pytest", "--quiet"], narrow) if LANES == 16 else (["tests.lanes"], os.environ)
    done = subprocess.run(
        [sys.executable, "-m", *command, *TESTS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr
    assert " passed" in done.stdout
