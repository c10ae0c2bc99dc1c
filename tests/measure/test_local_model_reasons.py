"""What a capture keeps of an error holds nothing of the prompt."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from moeplan.measure.local_model import reason_without


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("My PIN is 4711, keep it to yourself.", "cannot tokenize 'My PIN is 4711, keep it'"),
        (" secret ", "bad text: secret"),
        ("a\nsecond line with a name", "no token for: second line with"),
    ],
)
def test_an_error_that_quotes_the_prompt_is_kept_by_its_name(text: str, message: str) -> None:
    assert reason_without(text, ValueError(message)) == "ValueError"


def test_other_errors_keep_their_message() -> None:
    error = RuntimeError("index 70000 is out of bounds for dimension 0")
    assert reason_without("Tell me of whales.", error) == "RuntimeError: index 70000 is out of bounds for dimension 0"
