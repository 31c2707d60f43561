"""Times, factors and sizes as people read them."""


def clock(seconds: float) -> str:
    """Time as people read it: 0:04.0, 12:34.5, 1:02:03.4."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{tenths // 10:02}.{tenths % 10}"


def ratio(value: float) -> str:
    """A factor with as many digits as say something: 0.0042, 0.31, 12.4."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def size(number_bytes: int) -> str:
    """Bytes as people read them: 6.8 GB, 340 MB, 12.5 kB, 7 B."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number_bytes >= scale:
            return f"{number_bytes / scale:.{1 if number_bytes < 100 * scale else 0}f} {unit}"
    return f"{number_bytes} B"
