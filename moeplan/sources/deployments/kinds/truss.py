"""Baseten's Truss: a config.yaml that deploys a container's server, TensorRT-LLM, or vLLM, on stated accelerators.

Source: basetenlabs/truss truss/base/{truss_config,trt_llm_config,vllm_config,llm_config}.py and docs.baseten.co
(engine-builder-llm, bis-llm).
"""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.core.deployed import Deployed, FileRemark, Gang, Quote
from moeplan.sources.deployments.containers import engine_runs
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.identity import Evidence, Weights
from moeplan.sources.deployments.model_names import Traced, trace_model
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import without_secret_values
from moeplan.sources.deployments.record import recorded
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import from_table, listed, stated, switched

KIND = "baseten.truss"

_SERVERS = ("docker_server", "trt_llm", "vllm", "bis_llm")
_CACHE_PATH = "/app/model_cache"
"""Where volumes of `model_cache` are mounted."""
_SLICES = {"H100_40GB": "H100 MIG 3g.40gb"}
"""Accelerators of Baseten that are parts of a card."""
_DEFAULT_BATCH = {"max_batch_size": ("--max_batch_size", "256"), "max_num_tokens": ("--max_num_tokens", "8192")}
"""Truss's own defaults, which are not TensorRT-LLM's; both stacks have them."""
_BUILT_KV = {"fp8_kv": "fp8", "fp4_kv": "fp8", "weights_kv_int8": "int8", "weights_int4_kv_int8": "int8"}
"""Types of the KV cache that come with a quantisation of the engine builder."""
_VLLM_FLAGS = {
    "revision": "--revision",
    "tensor_parallel_size": "--tensor-parallel-size",
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "max_model_len": "--max-model-len",
    "dtype": "--dtype",
    "quantization": "--quantization",
    "served_model_name": "--served-model-name",
}


def recognises(document: Node) -> bool:
    """A mapping with `resources` and a server of Truss, or a model of Truss with an accelerator."""
    if document.at("kind").there or document.at("apiVersion").there or document.at("resources").kind != "map":
        return False
    if any(document.at(server).kind == "map" for server in _SERVERS):
        return True
    return "accelerator" in document.at("resources") and ("model_name" in document or "model_metadata" in document)


def read(document: Node, stream: Stream) -> Found:
    """One deployment. A model in Python, and an encoder, run no engine that moeplan knows."""
    name = document.at("model_name").word() or _folder(stream)
    stated_variables = document.at("environment_variables").entries.items()
    environment, secrets = without_secret_values(
        {key: Quote(value.text, value.spot) for key, value in stated_variables if value.is_scalar}
    )
    image = document.at("base_image", "image").quote()
    gpu, gpus = _accelerator(document.at("resources", "accelerator"))
    argv = _argv(document)
    if argv and document.at("docker_server").kind != "map":
        # The image is Truss's own.
        image = None
    runs = engine_runs(argv, environment, image, gpus) if argv else ()
    if not runs:
        return Found(secrets=secrets, passed_over=(name,))
    base = Deployed(
        KIND,
        name,
        document.key,
        image=image,
        gpu=gpu,
        gang=Gang(gpus, document.at("resources", "node_count").quote()),
        remarks=_built_quantised(document),
    )
    return Found(recorded(base, [_with_settings(run, document) for run in runs], _evidence(document)), secrets=secrets)


def _folder(stream: Stream) -> str:
    """The folder's name: every Truss's file is called config.yaml."""
    parts = stream.path.split("/")
    return parts[-2] if len(parts) > 1 and stream.stem == "config" else stream.stem


def _accelerator(node: Node) -> tuple[Quote | None, Quote | None]:
    """`H100:4` is the type and its number; without a number it is one."""
    quote = node.quote()
    if quote is None:
        return None, None
    name, _, number = quote.text.partition(":")
    gpu = quote._replace(text=name.strip())
    if gpu.text in _SLICES:
        gpu = Quote(_SLICES[gpu.text], gpu.spot, "inferred", why=f"{gpu.text} of Baseten")
    return gpu, quote._replace(text=number.strip() or "1")


# Commands -----------------------------------------------------------------------------------------------------


def _argv(document: Node) -> tuple[Quote, ...]:
    """The words that start the server; empty for one that is no engine for text."""
    start = document.at("docker_server", "start_command").quote()
    if start is not None:
        return (Quote("sh", start.spot), Quote("-c", start.spot), start)
    if document.at("vllm").kind == "map":
        return _vllm_argv(document.at("vllm"))
    if document.at("bis_llm", "config").kind == "map":
        return _bis_argv(document.at("bis_llm", "config"))
    build = document.at("trt_llm", "build")
    if document.at("trt_llm").kind != "map" or build.at("base_model").word() == "encoder":
        return ()
    return _trtllm_argv(document)


def _vllm_argv(node: Node) -> tuple[Quote, ...]:
    return (
        *_program("vllm serve", node),
        *listed(node.at("model")),
        *from_table(node, _VLLM_FLAGS),
        *switched(node.at("trust_remote_code"), "--trust-remote-code"),
        *(word._replace(text=text) for word in listed(node.at("extra_args")) for text in word.text.split()),
    )


def _bis_argv(config: Node) -> tuple[Quote, ...]:
    """The newer stack: an engine by name, a checkpoint, and the engine's own settings."""
    model = listed(config.first("checkpoint_name", "model_name"))
    served = stated("--served-model-name", config.at("model_name"))
    if config.at("engine_backend").word().lower() in ("trtllm", "trt_llm", "tensorrt_llm"):
        return _program("trtllm-serve", config, model, served, stated("--tp_size", config.at("tensor_parallel_size")))
    degree = stated("--tensor-parallel-size", config.at("tensor_parallel_size"))
    return _program("vllm serve", config, model, served, degree)


def _trtllm_argv(document: Node) -> tuple[Quote, ...]:
    build, runtime = document.at("trt_llm", "build"), document.at("trt_llm", "runtime")
    repository = build.at("checkpoint_repository")
    model = listed(repository.at("repo")) or listed(document.at("model_metadata", "repo_id"))
    words = [*stated("--hf_revision", repository.at("revision"))]
    if document.at("trt_llm", "inference_stack").word() == "v2":
        words += _or_default(runtime)
        words += from_table(
            runtime,
            {
                "max_seq_len": "--max_seq_len",
                "tensor_parallel_size": "--tp_size",
                "served_model_name": "--served_model_name",
            },
        )
        words += switched(runtime.at("enable_chunked_prefill"), "--enable_chunked_prefill")
    else:
        words += _or_default(build)
        words += from_table(
            build,
            {
                "max_seq_len": "--max_seq_len",
                "max_beam_width": "--max_beam_width",
                "tensor_parallel_count": "--tp_size",
                "pipeline_parallel_count": "--pp_size",
            },
        )
        words += from_table(
            runtime,
            {
                "kv_cache_free_gpu_mem_fraction": "--kv_cache_free_gpu_memory_fraction",
                "served_model_name": "--served_model_name",
            },
        )
        words += switched(runtime.at("enable_chunked_context"), "--enable_chunked_prefill")
    kind = build.at("quantization_type")
    if kind.word() in _BUILT_KV:
        cache = Quote(_BUILT_KV[kind.word()], kind.spot, "inferred", why=f"quantization_type {kind.word()}")
        words += (Quote("--kv_cache_dtype", kind.spot), cache)
    return _program("trtllm-serve", document.at("trt_llm"), model, tuple(words))


def _program(name: str, node: Node, *parts: Sequence[Quote]) -> tuple[Quote, ...]:
    """A program that Truss starts, with its words."""
    program = (Quote(word, node.key, "default", why="Truss") for word in name.split())
    return (*program, *(word for part in parts for word in part))


def _or_default(node: Node) -> tuple[Quote, ...]:
    """Sizes of a batch: stated, or Truss's own default."""
    words: list[Quote] = []
    for key, (flag, default) in _DEFAULT_BATCH.items():
        value = node.at(key).quote()
        if value is None:
            value = Quote(default, node.spot, "default", why="Truss")
        words += (Quote(flag, value.spot), value)
    return tuple(words)


def _with_settings(run: Run, document: Node) -> Run:
    """The run with the engine's own settings behind its words: they are laid over what the server's keys say."""
    if document.at("docker_server").kind == "map":
        return run
    settings = (
        document.at("trt_llm", "runtime", "patch_kwargs"),
        document.at("vllm", "patch_kwargs"),
        document.at("bis_llm", "config", "engine_config"),
    )
    words: list[Quote] = []
    for node in settings:
        if node.kind == "map":
            words += _settings_words(run.engine, node)
    return run._replace(command=(*run.command, *words))


def _settings_words(engine: str, node: Node) -> tuple[Quote, ...]:
    if engine == "trtllm":
        from moeplan.sources.deployments.kinds.trtllm_engine import engine_words

        return engine_words(node)
    from moeplan.sources.deployments.kinds.vllm_config import option_words

    return option_words(node)


# The model ----------------------------------------------------------------------------------------------------


def _evidence(document: Node) -> Evidence:
    """Weights by where they are mounted; a lone source, and what the metadata name, are hints."""
    weights = [
        Weights(node.at("mount_location").word(), source)
        for node in document.at("weights")
        if (source := node.at("source").quote()) is not None
    ]
    laid = [each for each in weights if each.path]
    for node in document.at("model_cache"):
        source, folder = node.at("repo_id").quote(), node.at("volume_folder").word()
        if source is not None:
            weights.append(Weights("", source, node.at("revision").quote()))
            if folder:
                laid.append(Weights(f"{_CACHE_PATH}/{folder}", source, node.at("revision").quote()))
    hints = [*_of_metadata(document.at("model_metadata")), *(weights if len(weights) == 1 else ())]
    return Evidence(weights=tuple(laid), hinted=_hinted(hints))


def _of_metadata(metadata: Node) -> tuple[Weights, ...]:
    source = metadata.at("repo_id").quote()
    return () if source is None else (Weights("", source),)


def _hinted(hints: Sequence[Weights]) -> Traced | None:
    for hint in hints:
        traced = trace_model(hint.source)
        if traced is not None:
            return Traced(traced.model._replace(origin="inferred"), hint.revision or traced.revision)
    return None


def _built_quantised(document: Node) -> tuple[FileRemark, ...]:
    """The engine builder may quantise: what is loaded is then smaller than the checkpoint."""
    kind = document.at("trt_llm", "build", "quantization_type")
    if kind.word().lower() in ("", "no_quant") or document.at("docker_server").kind == "map":
        return ()
    told = (
        f"weights are quantised to {kind.word()} when the engine is built, and are judged as the checkpoint holds them"
    )
    return (FileRemark("quantised-at-build", told, kind.spot, "name a checkpoint that is quantised already"),)
