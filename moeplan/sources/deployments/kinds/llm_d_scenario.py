"""Scenarios of llm-d-benchmark: `scenario[]`, each a model with its decode and prefill pods, rendered to modelservice values.

A scenario's keys stand on top or below `common`. What it leaves out comes from the benchmark's own defaults. Source:
llm-d/llm-d-benchmark config/templates/jinja/{13_ms-values.yaml.j2,_macros.j2} and config/templates/values/defaults.yaml.
"""

from __future__ import annotations

from moeplan.core.deployed import Deployed, Gang, PlainSecret, Quote, Role
from moeplan.sources.deployments.containers import engine_runs, environment
from moeplan.sources.deployments.gpu_names import gpu_of_pod
from moeplan.sources.deployments.identity import Evidence
from moeplan.sources.deployments.llm_d_layout import Spread, built_in, gpu_of_role, spread_of
from moeplan.sources.deployments.model_names import trace_model
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.record import recorded
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import listed, switched

KIND = "llm-d.scenario"

_DEFAULTS = {"maxModelLen": "16384", "gpuMemoryUtilization": "0.95", "blockSize": "64"}
"""`model` of the benchmark's defaults.yaml."""
_CACHE_BASE = "/model-cache"


def is_scenario(document: Node) -> bool:
    """A list `scenario` whose entries name a model."""
    return any(_at(item, "model").kind == "map" for item in document.at("scenario"))


def read_scenario(document: Node, stream: Stream) -> Found:
    """One deployment for each role of each scenario."""
    deployments: list[Deployed] = []
    secrets: list[PlainSecret] = []
    passed_over: list[str] = []
    for item in document.at("scenario"):
        name = item.at("name").word() or stream.stem
        split = _runs(item, "decode") and _runs(item, "prefill")
        roles: tuple[Role, ...] = ("decode", "prefill")
        engines: list[Deployed] = []
        for role in roles:
            if _runs(item, role):
                found = _role(item, name, role, role if split else "aggregate", stream)
                engines += found.deployments
                secrets += found.secrets
            elif _at(item, role).there:
                passed_over.append(f"{name}-{role}")
        if engines:
            # What stands above the scenario is about its first engine at least.
            first = min(engines, key=lambda each: each.spot)
            engines[engines.index(first)] = first._replace(spot=item.key)
        deployments += engines
    return Found(tuple(deployments), secrets=tuple(secrets), passed_over=tuple(passed_over))


def _at(item: Node, *path: str) -> Node:
    """A value of a scenario: its own, else that of `common`."""
    own = item.at(*path)
    return own if own.there else item.at("common", *path)


def _runs(item: Node, role: str) -> bool:
    node = _at(item, role)
    if node.kind != "map" or node.at("enabled").off or node.at("replicas").word() == "0":
        return False
    return role == "decode" or node.at("enabled").on or node.at("replicas").there


def _role(item: Node, name: str, key: str, role: Role, stream: Stream) -> Found:
    """The engine of one role."""
    node, model = _at(item, key), _at(item, "model")
    spread = spread_of(node.at("parallelism"))
    gang = Gang(
        node.at("accelerator", "count").quote() or spread.gpus_per_pod,
        spread.workers if _at(item, "multinode", "enabled").on else None,
        node.at("replicas").quote(),
    )
    image = _at(item, "images", "vllm", "tag").quote()
    repository = _at(item, "images", "vllm", "repository").word()
    if image is not None and repository:
        image = image._replace(text=f"{repository}:{image.text}")
    named = model.first("huggingfaceId", "name").quote()
    variables = _variables(model, spread, gang)
    around = environment(Node("map", node.spot, entries={"env": node.at("extraEnvVars")}), stream, variables)
    script = node.at("vllm", "customCommand").quote()
    if script is not None:
        shell = (Quote("bash", script.spot), Quote("-c", script.spot), script)
        runs = engine_runs(shell, {**variables, **around.variables}, image, gang.gpus_per_pod)
    else:
        argv = _default_command(item, node, model, spread)
        runs = engine_runs(argv, around.variables, image, gang.gpus_per_pod)
    transfer = _transfer_words(_at(item, "vllmCommon", "kvTransfer"))
    runs = tuple(run._replace(command=(*run.command, *transfer)) for run in runs)
    base = Deployed(
        KIND,
        f"{name}-{key}",
        node.key,
        image=image,
        gpu=_gpu(item, node),
        gang=gang,
        role=role,
        remarks=around.remarks,
    )
    traced = trace_model(named) if named is not None else None
    evidence = Evidence(named=traced, served_as=model.at("name").quote())
    return Found(recorded(base, runs, evidence) if runs else (), secrets=around.secrets)


def _variables(model: Node, spread: Spread, gang: Gang) -> dict[str, Quote]:
    """Variables of the pod that a custom command may use."""
    found = built_in(spread, gang)
    found["VLLM_TENSOR_PARALLELISM"] = spread.tensor
    for name, key in (
        ("VLLM_MAX_MODEL_LEN", "maxModelLen"),
        ("VLLM_ACCELERATOR_MEM_UTIL", "gpuMemoryUtilization"),
        ("VLLM_BLOCK_SIZE", "blockSize"),
        ("VLLM_MAX_NUM_SEQ", "maxNumSeq"),
        ("VLLM_MAX_NUM_BATCHED_TOKENS", "maxNumBatchedTokens"),
    ):
        value = _of_model(model, key)
        if value is not None:
            found[name] = value
    for name, node in (("MODEL_NAME", model.at("name")), ("MODEL_SERVE_REF", model.first("huggingfaceId", "name"))):
        value = node.quote()
        if value is not None:
            found[name] = value
    return found


def _of_model(model: Node, key: str) -> Quote | None:
    value = model.at(key).quote()
    if value is None and key in _DEFAULTS:
        return Quote(_DEFAULTS[key], model.spot, "default", why="defaults.yaml of llm-d-benchmark")
    return value


def _default_command(item: Node, node: Node, model: Node, spread: Spread) -> tuple[Quote, ...]:
    """The command that the benchmark writes where the scenario has none of its own."""
    flags, spot = _at(item, "vllmCommon", "flags"), model.spot
    path = model.at("path")
    base = model.at("cacheBase").word() or _CACHE_BASE
    word = Quote(f"{base}/{path.word()}", path.spot) if path.there else Quote(model.at("name").word(), spot)
    words = [Quote("vllm", spot), Quote("serve", spot), word]
    for flag, key in (
        ("--block-size", "blockSize"),
        ("--max-model-len", "maxModelLen"),
        ("--gpu-memory-utilization", "gpuMemoryUtilization"),
    ):
        value = _of_model(model, key)
        words += () if value is None else (Quote(flag, value.spot), value)
    words += (Quote("--tensor-parallel-size", spread.tensor.spot), spread.tensor)
    words += switched(flags.at("enforceEager"), "--enforce-eager")
    words += switched(flags.at("noPrefixCaching"), "--no-enable-prefix-caching")
    words += switched(flags.at("enablePrefixCaching"), "--enable-prefix-caching")
    for line in listed(node.at("vllm", "additionalFlags")):
        words += (line._replace(text=text) for text in line.text.split())
    return tuple(words)


def _transfer_words(node: Node) -> tuple[Quote, ...]:
    if not node.at("enabled").on:
        return ()
    connector, role = node.at("connector").word() or "NixlConnector", node.at("role").word() or "kv_both"
    text = f'{{"kv_connector":"{connector}","kv_role":"{role}"}}'
    spot = node.at("enabled").spot
    return Quote("--kv-transfer-config", spot), Quote(text, spot, "inferred", why="vllmCommon.kvTransfer")


def _gpu(item: Node, node: Node) -> Quote | None:
    affinity = _at(item, "affinity")
    selector = Node("map", affinity.spot, entries={"nodeSelector": affinity.at("nodeSelector")})
    gpu = None if affinity.at("enabled").off else gpu_of_pod(selector)
    return gpu or gpu_of_role(node)
