"""Container images: which engine is inside, and of which version."""

from __future__ import annotations

from moeplan.core.deployed import Quote


def engine_of_image(image: str) -> str | None:
    """`vllm/vllm-openai:v0.23.0` is vllm; sglang, tritonserver/tensorrt-llm, llama.cpp, ollama likewise; None for others."""
    raise NotImplementedError


def version_of_image(image: Quote) -> Quote | None:
    """The engine's version where the tag of an engine's own image is one (`v0.23.0`, `v0.5.3-cu129`, `server-cuda-b5466`).

    None for `latest`, digests, and images that carry an engine under their own version (`ray-llm:2.52.0`, Dynamo's).
    """
    raise NotImplementedError
