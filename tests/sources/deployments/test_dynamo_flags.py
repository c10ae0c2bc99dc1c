"""What an engine sees of the command line of Dynamo's worker."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.dynamo_flags import engines_own


@pytest.mark.parametrize(
    ("engine", "words", "expected"),
    [
        ("vllm", "--model o/m --disaggregation-mode prefill --tp 2", "--model o/m --tp 2"),
        ("vllm", "--is_prefill_worker --no-enable-multimodal --model o/m", "--model o/m"),
        ("vllm", "--connector nixl lmcache --model o/m", "--model o/m"),
        ("vllm", "--dyn-default-thinking-mode enabled --dyn-some-switch --dyn-x=1 --model o/m", "--model o/m"),
        ("vllm", "--endpoint=dyn://a.b.c --connector none --x", "--x"),
        ("vllm", "--headless --model o/m", "--headless --model o/m"),
        # SGLang has the flag itself.
        ("sglang", "--disaggregation-mode decode --migration-limit 3", "--disaggregation-mode decode"),
        ("trtllm", "--disaggregation-mode decode --kv-block-size 64", "--kv_cache_config.tokens_per_block 64"),
        ("trtllm", "--kv-block-size=64 --modality text", "--kv_cache_config.tokens_per_block=64"),
    ],
)
def test_flags_of_dynamo_are_left_out(engine: str, words: str, expected: str) -> None:
    texts = f"python3 -m dynamo.{engine} {words}".split()
    found = engines_own(engine, [Quote(text, Spot(place)) for place, text in enumerate(texts, 1)])
    assert " ".join(word.text for word in found) == f"python3 -m dynamo.{engine} {expected}"


def test_other_commands_stay_as_they_are() -> None:
    words = tuple(Quote(text, Spot(1)) for text in ("vllm", "serve", "o/m", "--endpoint", "x"))
    assert engines_own("vllm", words) == words
