"""Container images: which engine is inside, and of which version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.deployed import Quote


class Image(NamedTuple):
    """An image's reference in its parts."""

    path: str
    """`vllm/vllm-openai`, in small letters, with its registry where one is written."""
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


_PART = re.compile(r"([^@\s]+?)(?::([\w][\w.-]*))?(?:@(\w+:[0-9a-fA-F]+))?")

_NOT_ENGINES = re.compile(
    r"router|gateway|frontend|web-?ui|proxy|epp|scheduler|exporter|benchmark|bench\b|operator|controller|sidecar|mocker|"
    r"simulator|inference-sim|downloader|initializer|planner|kvaware|lmcache-server"
)
"""Beside an engine's name these are something else: `vllm-router`, `ollama-webui`."""
_INSIDE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"tensorrt-?llm|trt-?llm|tensorrt_llm"), "trtllm"),
    (re.compile(r"sglang|(?:^|/)sgl-"), "sglang"),
    (re.compile(r"vllm"), "vllm"),
    (re.compile(r"llama[.-]?cpp|llama-server|llama-swap|(?:^|/)ollama(?:$|/)"), "llamacpp"),
    # Images that carry vLLM under a name of their own: KServe's server, Ray's, llm-d's, Red Hat's.
    (
        re.compile(
            r"huggingfaceserver|(?:^|/)ray-llm$|(?:^|/)llm-d(?:-(?:cuda|rocm|xpu|cpu|aws|dev))*$|(?:^|/)rhaiis/"
        ),
        "vllm",
    ),
)

# Images whose tags are their engine's own versions.
_OWN = re.compile(
    r"(?:^|/)(?:vllm-openai(?:-rocm|-cpu|-xpu|-tpu)?|vllm-tpu|vllm-release-repo|vllm-cpu-release-repo"
    r"|deep-learning-containers/vllm|sglang(?:-rocm)?|tensorrt-llm/release|llama\.cpp)$"
)
_OTHERS_OWN = re.compile(r"(?:^|/)lmcache/")
"""Who builds upon an engine's image and counts versions of their own under its name."""
_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)*(?:\.?(?:rc|post|dev|a|b)\d+)?)(?![\w.])")
_BUILD = re.compile(r"(?:^|-)(b\d{3,})$")
_IN_TAG = re.compile(r"(?:^|_)vllm_(\d+\.\d+(?:\.\d+)*)(?![\d.])")
"""`rocm/vllm:rocm6.4.1_vllm_0.9.1_20250715`."""

_PUBLISHED: Mapping[tuple[str, str], str] = {
    ("vllm", "nvidia"): "vllm/vllm-openai:v{}",
    ("vllm", "amd"): "vllm/vllm-openai-rocm:v{}",
    ("sglang", "nvidia"): "lmsysorg/sglang:v{}",
    ("trtllm", "nvidia"): "nvcr.io/nvidia/tensorrt-llm/release:{}",
    ("llamacpp", "nvidia"): "ghcr.io/ggml-org/llama.cpp:server-cuda-{}",
    ("llamacpp", "amd"): "ghcr.io/ggml-org/llama.cpp:server-rocm-{}",
}
"""Engines' own images by engine and vendor of the card, with the place of the version. Tags of SGLang's images for AMD name
a release of ROCm too."""


def own_image(engine: str, version: str, vendor: str) -> str | None:
    """The image that the engine's makers publish for this version: what `version_of_image` reads; None where there is none."""
    known = _PUBLISHED.get((engine, vendor))
    if known is None:
        return None
    # TensorRT-LLM's tags have three numbers.
    return known.format(f"{version}.0" if engine == "trtllm" and version.count(".") == 1 else version)


def parts_of_image(image: str) -> Image:
    """`registry:5000/org/name:tag@sha256:...` in its parts."""
    found = _PART.fullmatch(image.strip().removeprefix("docker:").removeprefix("docker://"))
    if found is None:
        return Image(image.strip().lower())
    path, tag, digest = found.groups()
    if tag and "/" in tag:
        path, tag = f"{path}:{tag}", ""
    return Image(path.lower(), tag or "", digest or "")


def engine_of_image(image: str) -> str | None:
    """`vllm/vllm-openai:v0.23.0` is vllm; sglang, tritonserver/tensorrt-llm, llama.cpp, ollama likewise; None for others."""
    parts = parts_of_image(image)
    if _NOT_ENGINES.search(parts.name):
        return None
    for pattern, engine in _INSIDE:
        if pattern.search(parts.path):
            return engine
    return "trtllm" if parts.name == "tritonserver" and "trtllm" in parts.tag else None


def is_own_image(image: str) -> bool:
    """True for an engine's own image, whose entrypoint serves a model (vLLM, llama.cpp), and whose tag is the version."""
    path = parts_of_image(image).path
    return bool(_OWN.search(path)) and not _OTHERS_OWN.search(path)


def serves_first_word(image: str) -> bool:
    """True for images whose entrypoint is `vllm serve`, whoever built them: a first word without a dash is the model."""
    return _OWN.search(parts_of_image(image).path) is not None


def version_of_image(image: Quote) -> Quote | None:
    """The engine's version where the tag of an engine's own image is one (`v0.23.0`, `v0.5.3-cu129`, `server-cuda-b5466`).

    None for `latest`, digests, and images that carry an engine under their own version (`ray-llm:2.52.0`, Dynamo's).
    """
    parts = parts_of_image(image.text)
    if not image.known:
        return None
    found = _IN_TAG.search(parts.tag) if parts.path.endswith("rocm/vllm") else None
    if found is None and is_own_image(image.text):
        found = _BUILD.search(parts.tag) if parts.name == "llama.cpp" else _VERSION.match(parts.tag)
    return image._replace(text=found.group(1), why=f"tag {parts.tag}") if found is not None else None
