"""Flags of Dynamo's own on the command line of one of its workers: the engine never sees them.

Source: ai-dynamo/dynamo components/src/dynamo/{common/configuration/groups/runtime_args,vllm/backend_args,
trtllm/backend_args}.py. `--disaggregation-mode` is SGLang's own flag too, and stays a word of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.words import spelled

_SWITCHES = {"--durable-kv-events", "--enable-local-indexer", "--publish-events-and-metrics", "--disable-request-abort"}
_WITH_ONE = {
    "--namespace", "--endpoint", "--discovery-backend", "--store-kv", "--request-plane", "--event-plane",
    "--custom-jinja-template", "--endpoint-types", "--dump-config-to", "--migration-limit", "--media-output-fs-url",
    "--media-output-http-url",
}  # fmt: skip
_OWN = "--dyn-"
"""What begins so is Dynamo's own, with one value or none."""
_WITH_MANY = {"--connector", "--output-modalities"}
_OF_BACKENDS: dict[str, tuple[set[str], set[str]]] = {
    "vllm": (
        {
            "--is-prefill-worker", "--is-decode-worker", "--use-vllm-tokenizer", "--route-to-encoder",
            "--multimodal-worker", "--multimodal-decode-worker", "--enable-multimodal", "--frontend-decoding",
        },
        {"--disaggregation-mode", "--mm-prompt-template", "--model-express-url", "--default-video-fps"},
    ),
    "trtllm": (
        set(),
        {
            "--disaggregation-mode", "--modality", "--encode-endpoint", "--max-file-size-mb",
            "--allowed-local-media-path",
        },
    ),
    "sglang": ({"--use-sglang-tokenizer"}, set()),
}  # fmt: skip
"""Switches, and flags with one value."""
_MEANS = {"trtllm": {"--kv-block-size": "--kv_cache_config.tokens_per_block"}}
"""Flags that Dynamo hands on under another name."""


def engines_own(engine: str, command: Sequence[Quote]) -> tuple[Quote, ...]:
    """The words that the engine sees of a worker of Dynamo; other commands stay as they are."""
    if not any(word.text.startswith("dynamo.") for word in command[:6]):
        return tuple(command)
    switches, with_one = _OF_BACKENDS.get(engine, (set(), set()))
    means = _MEANS.get(engine, {})
    kept: list[Quote] = []
    dropping = 0
    for word in command:
        name = spelled(word.text)
        is_flag = word.text.startswith("--")
        if dropping and not is_flag:
            dropping -= 1
            continue
        attached = "=" in word.text
        if is_flag and name.replace("--no-", "--", 1) in _SWITCHES | switches:
            dropping = 0
        elif is_flag and (name in _WITH_ONE | with_one or name.startswith(_OWN)):
            dropping = 0 if attached else 1
        elif is_flag and name in _WITH_MANY:
            dropping = 0 if attached else len(command)
        else:
            dropping = 0
            kept.append(_renamed(word, means.get(name, "")) if is_flag else word)
    return tuple(kept)


def _renamed(word: Quote, name: str) -> Quote:
    _, sign, value = word.text.partition("=")
    return word._replace(text=f"{name}{sign}{value}") if name else word
