import pytest

from tests.soak import soak


@pytest.mark.slow
def test_twenty_minutes_stay_as_they_began(capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, last = soak(hours=1 / 3, seed=3, period_s=300.0)
    capsys.readouterr()
    assert last["period"] == 4
    assert last["asked"] > 15
    assert min(first["share"], last["share"]) >= 0.7  # of some thirty; `evaluate` measures how many it is at best
    assert last["resident_mb"] <= 1.05 * first["resident_mb"]
