from __future__ import annotations

import pytest

from moeplan.core.errors import InputError
from moeplan.core.units import (
    duration,
    gib,
    gib_floor,
    params,
    parse_bytes,
    parse_count,
    parse_rate,
    parse_seconds,
    per_second,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32768", 32768), ("32k", 32_000), ("32K", 32_768), ("1M", 2**20), ("1m", 10**6), ("1.5k", 1500),
        ("1e6", 10**6), ("131,072", 131_072), ("8_192", 8192),
    ],
)  # fmt: skip
def test_counts_are_read_as_engines_read_them(text: str, value: int) -> None:
    # vLLM 0.33.0 human_readable_int: k, m, g are powers of 1000; K, M, G powers of 1024.
    assert parse_count(text, "--context").value == value


def test_a_suffix_is_said_aloud_and_a_plain_number_is_not() -> None:
    assert parse_count("32k", "--context").reading == "32k = 32,000"
    assert parse_count("32000", "--context").reading is None


@pytest.mark.parametrize("text", ["", "k", "0", "-1", "1.5", "1.0001k", "nan", "inf", "1e99", "32 kk", "abc", "0x10"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_count(text, "--context")
    assert "--context" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "size"), [("40GiB", 40 * 2**30), ("80 GB", 80 * 10**9), ("1e9", 10**9), ("512MiB", 2**29)]
)
def test_sizes_tell_decimal_from_binary(text: str, size: int) -> None:
    assert parse_bytes(text, "--ram") == size


def test_headroom_is_rounded_down_and_sizes_to_nearest() -> None:
    almost = int(1.97 * 2**30)
    assert gib(almost) == "2.0 GiB"
    assert gib_floor(almost) == "1.9 GiB"
    assert gib_floor(-1) == "-0.1 GiB"


@pytest.mark.parametrize(
    ("count", "text"),
    [(46_702_792_704, "46.7B"), (5_711_982_912, "5.71B"), (1_026_408_209_408, "1.03T"), (880_000, "880.0k")],
)
def test_parameters_read_like_model_cards(count: int, text: str) -> None:
    assert params(count) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2.0), ("30ms", 0.03), ("0.5", 0.5), ("500 us", 5e-4), ("500µs", 5e-4), ("1.5min", 90.0), ("1e-3", 0.001)],
)
def test_durations_are_seconds_unless_they_say_more(text: str, seconds: float) -> None:
    assert parse_seconds(text, "--ttft") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0ms", "-1", "-2s", "nan", "inf", "2 h", "90000", "fast", "1.2.3", "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_seconds(text, "--ttft")
    assert "--ttft" in caught.value.message
    assert "30ms" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "rate"), [("12/s", 12.0), ("300/min", 5.0), ("0.5", 0.5), ("1,800 / h", 0.5), ("1e2/s", 100.0)]
)
def test_rates_are_per_second_unless_they_say_more(text: str, rate: float) -> None:
    assert parse_rate(text, "--arrival") == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "0", "0/s", "-1/s", "12/day", "12 s", "nan/s", "1e9/s", "1.2.3/s", "/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_rate(text, "--arrival")
    assert "--arrival" in caught.value.message
    assert "12/s" in caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.2345, "1.23 s"),
        (61.0, "61.0 s"),
        (0.0321, "32.1 ms"),
        (0.9999, "1.00 s"),
        (0.12345, "123 ms"),
        (8.5e-4, "850 µs"),
    ],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(4312.0, "4,310"), (31.24, "31.2"), (0.851, "0.85"), (99.96, "100")])
def test_rates_have_three_digits(rate: float, text: str) -> None:
    assert per_second(rate) == text
