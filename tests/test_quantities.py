"""Quantities as people read them."""

from audio_interaction_cli.quantities import clock, ratio, size


def test_clock_and_ratio() -> None:
    assert [clock(s) for s in (0, 4, 59.96, 754.5, 3723.4)] == ["0:00.0", "0:04.0", "1:00.0", "12:34.5", "1:02:03.4"]
    assert [ratio(f) for f in (0.00421, 0.314, 0.999, 1.0, 12.44)] == ["0.0042", "0.31", "1", "1.0", "12.4"]


def test_size() -> None:
    numbers = (7, 999, 12_480, 340_000_000, 6_849_000_000, 999_960_000)
    assert [size(n) for n in numbers] == ["7 B", "999 B", "12.5 kB", "340 MB", "6.8 GB", "1000 MB"]
