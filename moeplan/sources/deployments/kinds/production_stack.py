"""vLLM production-stack: values of its Helm chart, and its operator's VLLMRuntime.

The chart writes a `vllm serve` command line out of each entry of `servingEngineSpec.modelSpec`: as a Deployment, with
`raySpec` as a Ray cluster, with `lwsSpec` as a LeaderWorkerSet. The words here are in the chart's order, because extra
arguments come last and so win. Source: vllm-project/production-stack helm/templates/{deployment-vllm-multi,ray-cluster,
lws-vllm}.yaml and operator/internal/controller/vllmruntime_controller.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote
from moeplan.sources.deployments.containers import Environment, engine_runs, environment, gpus_of, slice_of
from moeplan.sources.deployments.gpu_names import gpu_of_pod, gpu_of_terms
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import is_plain_secret
from moeplan.sources.deployments.record import moeplan_annotations, recorded, with_slice
from moeplan.sources.deployments.roles import role_of_command
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import from_table, listed, stated, switched

KIND = "helm.vllm-production-stack"
RUNTIME_KIND = "k8s.vllmruntime"

_CACHE_CONNECTOR = "LMCacheConnectorV1"


def recognises(document: Node) -> bool:
    """Values with `servingEngineSpec.modelSpec`, on top or below a subchart's name; and objects of the kind VLLMRuntime."""
    if document.at("kind").word() == "VLLMRuntime":
        return document.at("apiVersion").word().startswith("production-stack.vllm.ai/")
    return not document.at("kind").there and any(True for _ in _charts(document))


def read(document: Node, stream: Stream) -> Found:
    """One deployment for each entry that is switched on; one for a VLLMRuntime."""
    if document.at("kind").there:
        return _runtime(document, stream)
    found = [part for serving in _charts(document) for part in _entries(serving, stream)]
    return Found(
        tuple(each for part in found for each in part.deployments),
        secrets=tuple(each for part in found for each in part.secrets),
        passed_over=tuple(each for part in found for each in part.passed_over),
    )


def _charts(document: Node) -> Iterator[Node]:
    """`servingEngineSpec` of the document, else of subcharts."""
    for values in (document, *document.entries.values()):
        if values.at("servingEngineSpec", "modelSpec").kind == "list":
            yield values.at("servingEngineSpec")


def _entries(serving: Node, stream: Stream) -> Iterator[Found]:
    yield Found(secrets=_in_plain("vllmApiKey", serving.at("vllmApiKey")))
    for spec in serving.at("modelSpec"):
        idle = spec.at("replicaCount").word() == "0" and not spec.at("keda", "enabled").on
        if serving.at("enableEngine").off or spec.at("enabled").off or idle:
            yield Found(passed_over=(spec.at("name").word(),))
        else:
            yield _entry(serving, spec, stream)


def _entry(serving: Node, spec: Node, stream: Stream) -> Found:
    """One entry of `modelSpec`."""
    gang, remarks = _gang(spec)
    repository, tag = spec.at("repository").quote(), spec.at("tag").quote()
    image = repository
    if repository is not None and tag is not None:
        image = tag._replace(text=f"{repository.text}:{tag.text}")
    found = _environment(serving, spec, stream)
    argv = (*_program(spec.at("modelURL")), *_words(spec, gang))
    runs = engine_runs(argv, found.variables, image, gang.gpus_per_pod)
    base = Deployed(
        KIND,
        spec.at("name").word(),
        spec.key,
        image=image,
        gpu=_gpu(spec),
        gang=gang,
        role=role_of_command(argv) or "aggregate",
        annotations=moeplan_annotations(spec.at("annotations"), spec.at("podAnnotations")),
        remarks=(*remarks, *found.remarks),
    )
    return Found(recorded(base, runs), secrets=(*found.secrets, *_in_plain("hf_token", spec.at("hf_token"))))


def _program(model: Node) -> tuple[Quote, ...]:
    return (Quote("vllm", model.spot), Quote("serve", model.spot), *listed(model))


def _is_ray(spec: Node) -> bool:
    # Older charts go by the key alone; `enabled: false` is written to have none.
    return "raySpec" in spec and not spec.at("raySpec", "enabled").off


def _is_gang(spec: Node) -> bool:
    return "lwsSpec" in spec and spec.at("lwsSpec", "enabled").on


def _words(spec: Node, gang: Gang) -> tuple[Quote, ...]:
    """Flags as the chart writes them, in its order."""
    config = spec.at("vllmConfig")
    words = [
        *switched(spec.at("enableLoRA"), "--enable-lora"),
        *switched(spec.at("enableTool"), "--enable-auto-tool-choice"),
        *stated("--tool-call-parser", spec.at("toolCallParser")),
        *switched(config.at("enableChunkedPrefill"), "--enable-chunked-prefill", "--no-enable-chunked-prefill"),
        *_prefix_caching(config, silent=_is_ray(spec)),
    ]
    words += from_table(
        config,
        {"maxModelLen": "--max-model-len", "dtype": "--dtype", "tensorParallelSize": "--tensor-parallel-size"},
    )
    # The template of a plain Deployment has no word for it.
    if _is_ray(spec):
        words += stated("--pipeline-parallel-size", config.at("pipelineParallelSize"))
    words += from_table(
        config,
        {
            "maxNumSeqs": "--max-num-seqs",
            "gpuMemoryUtilization": "--gpu-memory-utilization",
            "maxLoras": "--max-loras",
            "runner": "--runner",
            "convert": "--convert",
        },
    )
    words += listed(config.at("extraArgs"))
    words += stated("--revision", spec.at("modelRevision"))
    words += _cache_words(spec.at("lmcacheConfig"))
    if _is_gang(spec):
        words += _gang_words(config, gang)
    return tuple(words)


def _prefix_caching(config: Node, *, silent: bool) -> tuple[Quote, ...]:
    """The chart turns prefix caching off wherever the key does not turn it on; on Ray it then says nothing."""
    if config.at("enablePrefixCaching").on or silent or not config.there:
        return switched(config.at("enablePrefixCaching"), "--enable-prefix-caching")
    node = config.at("enablePrefixCaching")
    off = Quote("--no-enable-prefix-caching", node.spot, why="the chart's template")
    return (off if node.there else off._replace(origin="default"),)


def _cache_words(cache: Node) -> tuple[Quote, ...]:
    if not cache.at("enabled").on:
        return ()
    role = cache.at("kvRole").word() or "kv_both"
    text = f'{{"kv_connector":"{_CACHE_CONNECTOR}","kv_role":"{role}"}}'
    spot = cache.at("enabled").spot
    return Quote("--kv-transfer-config", spot), Quote(text, spot, "inferred", why="lmcacheConfig")


def _gang_words(config: Node, gang: Gang) -> tuple[Quote, ...]:
    """A LeaderWorkerSet has a pipeline stage in each pod, unless its number is stated."""
    size = gang.pods_per_engine
    stages = stated("--pipeline-parallel-size", config.at("pipelineParallelSize"))
    if size is None:
        return stages
    if not stages:
        stages = (Quote("--pipeline-parallel-size", size.spot), size._replace(origin="inferred", why="lwsSpec.size"))
    return (*stages, Quote("--nnodes", size.spot), size)


def _gang(spec: Node) -> tuple[Gang, tuple[FileRemark, ...]]:
    gpus = gpus_of(spec.at("resources")) or spec.at("requestGPU").quote()
    keda = spec.at("keda")
    replicas = spec.at("replicaCount").quote()
    most = None
    if keda.at("enabled").on:
        replicas, most = keda.at("minReplicaCount").quote() or replicas, keda.at("maxReplicaCount").quote()
    gang = Gang(gpus, None, replicas, most)
    if _is_gang(spec):
        gang = gang._replace(pods_per_engine=spec.at("lwsSpec", "size").quote())
    elif _is_ray(spec):
        gang = _ray_gang(spec, gpus)
    return gang, _parts_of_cards(spec)


def _ray_gang(spec: Node, gpus: Quote | None) -> Gang:
    """A Ray cluster is one engine: its head, and `replicaCount` workers."""
    head, workers = spec.at("raySpec", "headNode", "requestGPU").quote(), spec.at("replicaCount").quote()
    each = gpus.whole_number() if gpus is not None else None
    num_workers = workers.whole_number() if workers is not None else 1
    of_head = head.whole_number() if head is not None else 0
    if gpus is None or each is None or num_workers is None or of_head is None:
        return Gang(gpus)
    spot = workers.spot if workers is not None else spec.at("raySpec").spot
    why = f"a head with {of_head} GPUs and {num_workers} workers with {each}"
    if of_head in (0, each):
        pods = num_workers + (1 if of_head else 0)
        return Gang(gpus, Quote(str(pods), spot, "inferred", why=why))
    return Gang(Quote(str(of_head + num_workers * each), spot, "inferred", why=why))


def _parts_of_cards(spec: Node) -> tuple[FileRemark, ...]:
    """HAMi gives a container a part of a card's memory: less than what the card's profile says."""
    part = spec.first("requestGPUMem", "requestGPUMemPercentage", "limitGPUMem", "limitGPUMemPercentage")
    if part.word() in ("", "0", "100"):
        return ()
    told = "only a part of a card's memory is asked for (HAMi); whole cards are what moeplan judges"
    return (FileRemark("gpu-shared", told, part.spot, "ask for whole cards or MIG slices"),)


def _gpu(spec: Node) -> Quote | None:
    """By the affinity, which the chart prefers to `nodeSelectorTerms`; a MIG slice by the resource that is asked for."""
    gpu = gpu_of_pod(spec) if spec.at("affinity").entries else gpu_of_terms(spec.at("nodeSelectorTerms"))
    kind = spec.at("requestGPUType")
    limits = Node("map", kind.spot, entries={kind.word(): spec.at("requestGPU")})
    simple = Node("map", kind.spot, entries={"limits": limits})
    mig = slice_of(spec.at("resources")) or slice_of(simple)
    return with_slice(gpu, mig)


# Environment --------------------------------------------------------------------------------------------------


def _environment(serving: Node, spec: Node, stream: Stream) -> Environment:
    env = Node("list", spec.spot, items=[*serving.at("env").items, *spec.at("env").items])
    version = spec.at("vllmConfig", "v0")
    built_in = {}
    if version.word() == "1":
        built_in["VLLM_USE_V1"] = Quote("0", version.spot, "inferred", why="vllmConfig.v0")
    devices = spec.at("lmcacheConfig", "cudaVisibleDevices").quote()
    if devices is not None:
        built_in["CUDA_VISIBLE_DEVICES"] = devices
    found = environment(Node("map", spec.spot, entries={"env": env}), stream, built_in)
    return found._replace(variables={**built_in, **found.variables})


def _in_plain(name: str, node: Node) -> tuple[PlainSecret, ...]:
    """A token that stands in the values themselves, and not in a secret that they name."""
    return (PlainSecret(name, node.spot),) if is_plain_secret("token", node.word()) else ()


# The operator's object ----------------------------------------------------------------------------------------


def _runtime(document: Node, stream: Stream) -> Found:
    """A VLLMRuntime."""
    name, spec = document.at("metadata", "name").word(), document.at("spec")
    deployment, config, model = spec.at("deploymentConfig"), spec.at("vllmConfig"), spec.at("model")
    if deployment.at("replicas").word() == "0":
        return Found(passed_over=(name,))
    image = deployment.at("image", "name").quote()
    registry = deployment.at("image", "registry").word()
    if image is not None and registry:
        image = image._replace(text=f"{registry}/{image.text}")
    argv = (
        *_program(model.at("modelURL")),
        *switched(model.at("enableLoRA"), "--enable-lora"),
        *switched(model.at("enableTool"), "--enable-auto-tool-choice"),
        *stated("--tool-call-parser", model.at("toolCallParser")),
        *_always(config, "enableChunkedPrefill", "enable-chunked-prefill"),
        *_always(config, "enablePrefixCaching", "enable-prefix-caching"),
        *from_table(model, {"maxModelLen": "--max-model-len", "dtype": "--dtype"}),
        *from_table(config, {"tensorParallelSize": "--tensor-parallel-size"}),
        *from_table(model, {"maxNumSeqs": "--max-num-seqs"}),
        *from_table(config, {"gpuMemoryUtilization": "--gpu-memory-utilization", "maxLoras": "--max-loras"}),
        *listed(config.at("extraArgs")),
        *_cache_words(spec.at("lmCacheConfig")),
    )
    gpus = deployment.at("resources", "gpu").quote()
    container = Node("map", config.spot, entries={"env": config.at("env")})
    found = environment(container, stream)
    base = Deployed(
        RUNTIME_KIND,
        name,
        document.key,
        image=image,
        gang=Gang(gpus, None, deployment.at("replicas").quote()),
        annotations=moeplan_annotations(document.at("metadata", "annotations")),
        remarks=found.remarks,
    )
    return Found(recorded(base, engine_runs(argv, found.variables, image, gpus)), secrets=found.secrets)


def _always(config: Node, key: str, flag: str) -> tuple[Quote, ...]:
    """The operator writes a switch down whether or not the key is there: an absent one is off."""
    node = config.at(key)
    return (Quote(f"--{flag}" if node.on else f"--no-{flag}", node.spot, "stated" if node.there else "default"),)
