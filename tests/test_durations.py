"""Durations: what people write, and what is refused with a remedy."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.durations import Duration, milliseconds, seconds
from flowkit.errors import ConfigurationError


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.5, 0.5),
        (timedelta(minutes=2, milliseconds=5), 120.005),
        ("1h30m", 5_400.0),
        ("1h 30m", 5_400.0),
        (" 3 d ", 259_200.0),
        ("2w", 1_209_600.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("1m5ms", 60.005),
        ("1w2d3h4m5s6ms", 788_645.006),
        ("1.1s", 1.1),
        ("1100ms", 1.1),
        ("90", 90.0),
        ("0.5", 0.5),
        ("1000w", 604_800_000.0),
    ],
    ids=repr,
)
def test_what_is_read(written: Duration, expected: float) -> None:
    """Numbers, timedeltas and texts all become seconds."""
    read = seconds(written, "delay")

    assert read == expected
    assert type(read) is float


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "h",
        "1x",
        "1M",
        "1H",
        "1h1h",
        "30m1h",
        "5 minutes",
        "1e3",
        "inf",
        "nan",
        "1m5",
        "+1s",
        "1.s",
        "٣s",
        "--1s",
        "-",
    ],
)
def test_text_that_is_no_duration(written: str) -> None:
    """A text that is not understood is refused, with the value, the place and what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        seconds(written, "timeout of step 'charge'")

    message = str(caught.value)
    assert message.startswith(f"timeout of step 'charge': {written!r} is no duration")
    assert '"1h30m"' in message


@pytest.mark.parametrize("value", [True, False, None, [1], 1j, float("nan"), b"1s"], ids=repr)
def test_values_that_are_no_duration(value: object) -> None:
    """Whatever is no number, timedelta or text is refused; booleans and NaN are no numbers here."""
    with pytest.raises(ConfigurationError, match=r"^lease: .* is no duration; write seconds"):
        seconds(value, "lease")  # type: ignore[arg-type]  # the wrong type is what is tested


@pytest.mark.parametrize("value", [-1, -0.1, float("-inf"), -(10**400), timedelta(-1), "-1h", "-5", "-1h30m"], ids=str)
def test_negative_durations(value: Duration) -> None:
    """A negative duration is called negative."""
    with pytest.raises(ConfigurationError, match=r"^delay: .* is negative; write seconds"):
        seconds(value, "delay")


@pytest.mark.parametrize(
    "value",
    [float("inf"), 10**400, 1e300, timedelta.max, "60000w", "9" * 400 + "s"],
    ids=["inf", "int", "float", "timedelta", "text", "digits"],
)
def test_durations_that_no_storage_could_hold(value: Duration) -> None:
    """A duration beyond a thousand years is a mistake, and would overflow a point in time."""
    with pytest.raises(ConfigurationError, match=r"^retention: .* is longer than 1,000 years"):
        seconds(value, "retention")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0),
        (1.001, 1_001),
        ("1.5s", 1_500),
        ("3d", 259_200_000),
        (0.0001, 1),
        (1.2344, 1_234),
        (timedelta(microseconds=1), 1),
    ],
    ids=str,
)
def test_milliseconds(written: Duration, expected: int) -> None:
    """Milliseconds are whole, and a duration above zero never becomes none at all."""
    assert milliseconds(written, "lease") == expected


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_a_duration_written_as_text_is_the_same_duration(duration: timedelta) -> None:
    """Text and timedelta agree to the microsecond."""
    hours, rest = divmod(duration, timedelta(hours=1))
    minutes, rest = divmod(rest, timedelta(minutes=1))

    assert seconds(f"{hours}h{minutes}m{rest.seconds}.{rest.microseconds:06}s", "delay") == duration.total_seconds()
