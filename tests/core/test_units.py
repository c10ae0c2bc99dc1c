from __future__ import annotations

import pytest

from moeplan.core.errors import InputError
from moeplan.core.units import gib, gib_floor, params, parse_bytes, parse_count


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
