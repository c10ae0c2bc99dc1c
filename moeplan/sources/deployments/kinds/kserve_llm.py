"""KServe's LLMInferenceService (v1alpha1, v1alpha2): a model, a layout and pods without a command.

The command comes from configurations that the controller merges in; those of the same text are merged here, the presets of
KServe itself are known by what they do. Source: kserve/kserve pkg/controller/v1alpha2/llmisvc/config_merge.go and
config/llmisvcconfig.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, Quote, Role, Spot
from moeplan.sources.deployments.containers import Environment, container_runs, environment, gpus_of, slice_of, words_of
from moeplan.sources.deployments.device_claims import claimed_gpus
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.gangs import counted, leading
from moeplan.sources.deployments.go_templates import filled
from moeplan.sources.deployments.gpu_names import gpu_of_pod
from moeplan.sources.deployments.helm_values import left_open
from moeplan.sources.deployments.identity import Evidence
from moeplan.sources.deployments.kinds.leader_worker_set import group_variables
from moeplan.sources.deployments.merging import merged
from moeplan.sources.deployments.model_names import trace_model
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.objects import find_object, most_replicas, named
from moeplan.sources.deployments.pods import with_role
from moeplan.sources.deployments.record import moeplan_annotations, recorded, with_slice
from moeplan.sources.deployments.shell import read_script
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import from_table, switched

KIND = "kserve.llminferenceservice"
_SERVICE = "LLMInferenceService"
_CONFIG = "LLMInferenceServiceConfig"
_MAIN = "main"
_MORE_ARGUMENTS = "VLLM_ADDITIONAL_ARGS"
"""What the presets put behind the flags of their own command."""
_PRESETS = re.compile(r"(?:[\w.-]*kserve-)?config-llm-[\w-]+")
_LAYOUT = {
    "tensor": "--tensor-parallel-size",
    "pipeline": "--pipeline-parallel-size",
    "data": "--data-parallel-size",
    "dataLocal": "--data-parallel-size-local",
}
_SPECULATION = {
    "method": "--speculative-config.method",
    "numSpeculativeTokens": "--speculative-config.num_speculative_tokens",
}
_SPECULATOR = {
    "tensorParallelSize": "--speculative-config.draft_tensor_parallel_size",
    "maxModelLen": "--speculative-config.max_model_len",
}
_DEVICE_CLASS = "serving.kserve.io/exp-dra-device-class"
_DEVICE_COUNT = "serving.kserve.io/exp-dra-device-count"
_LORA_RANK = "64"
"""`maxRank` where it is not stated (kserve/kserve docs/samples/llmisvc/lora-adapters)."""
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?")


class _Service(NamedTuple):
    """A service with all that its bases say."""

    document: Node
    name: str
    spec: Node
    remarks: tuple[FileRemark, ...]
    stream: Stream


def recognises(document: Node) -> bool:
    """By kind and API group; configurations, which run nothing by themselves, too."""
    kind, version = document.at("kind").word(), document.at("apiVersion").word()
    return kind in (_SERVICE, _CONFIG) and version.startswith("serving.kserve.io/")


def read(document: Node, stream: Stream) -> Found:
    """One deployment, or two where a service has pods that prefill."""
    if document.at("kind").word() == _CONFIG:
        return Found(passed_over=(named(document, stream),))
    service = _service(document, stream)
    prefill = service.spec.at("prefill")
    if not prefill.there:
        parts = [_workload(service, service.spec, service.name, "aggregate")]
    else:
        parts = [
            _workload(service, service.spec, f"{service.name}-decode", "decode"),
            _workload(service, prefill, f"{service.name}-prefill", "prefill"),
        ]
    beside = ("scheduler",) if service.spec.at("router", "scheduler").there else ()
    return Found(
        tuple(each for part in parts for each in part.deployments),
        secrets=tuple(each for part in parts for each in part.secrets),
        passed_over=tuple(dict.fromkeys((*(each for part in parts for each in part.passed_over), *beside))),
    )


def _service(document: Node, stream: Stream) -> _Service:
    """The service laid over its bases, which lie over each other in their order."""
    spec = Node("map", document.at("spec").spot)
    remarks: list[FileRemark] = []
    for reference in document.at("spec", "baseRefs"):
        name = reference.at("name").quote() or reference.quote()
        base = find_object(stream, (_CONFIG,), name.text) if name is not None else None
        if base is not None:
            spec = merged(spec, base.at("spec"))
        elif name is not None and not _PRESETS.fullmatch(name.text):
            told = f"the base {name.text} is not in this text: what it sets is left out"
            remarks.append(FileRemark("base-missing", told, name.spot, "check the configuration in the same stream"))
    spec = merged(spec, document.at("spec"))
    return _Service(document, named(document, stream), spec, tuple(remarks), stream)


# One workload -------------------------------------------------------------------------------------------------


def _workload(service: _Service, part: Node, name: str, role: Role) -> Found:
    """The engine of `spec` or of `spec.prefill`; `part` holds its template, layout and copies."""
    pod = _filled(part.at("template"), service)
    main = _main(pod, service.document)
    spread = _pods(part)
    built_in = {} if spread is None else group_variables(
        service.document, spread, "LWS_", "LEADER_ADDRESS", "GROUP_SIZE", "WORKER_INDEX"
    )  # fmt: skip
    runs, around = _runs(service, part, main, built_in, main_workload=role != "prefill")
    gpus = gpus_of(main.at("resources")) or claimed_gpus(main, pod, service.stream) or _managed_devices(service)
    remarks = (*service.remarks, *around.remarks)
    if isinstance(gpus, FileRemark):
        remarks = (*remarks, gpus)
        gpus = None
    scaling = part.at("scaling")
    base = Deployed(
        KIND,
        name,
        service.document.key if role != "prefill" else _prefill_key(service),
        image=main.at("image").quote(),
        gpu=with_slice(gpu_of_pod(pod) or gpu_of_pod(part.at("worker")), slice_of(main.at("resources"))),
        gang=Gang(
            gpus,
            spread,
            part.at("replicas").quote() or scaling.at("minReplicas").quote(),
            scaling.at("maxReplicas").quote() or most_replicas(service.stream, _SERVICE, service.name),
        ),
        role=role,
        annotations=moeplan_annotations(service.document.at("metadata", "annotations"), part.at("annotations")),
        remarks=remarks,
    )
    model = service.spec.at("model")
    uri = model.at("uri").quote()
    evidence = Evidence(named=trace_model(uri) if uri is not None else None, served_as=_served_name(service))
    others = (*pod.at("containers").items, *pod.at("initContainers").items)
    return Found(
        tuple(with_role(each) for each in recorded(base, runs, evidence)),
        secrets=around.secrets,
        passed_over=tuple(each.at("name").word() for each in others if each is not main and each.at("name").there),
    )


def _prefill_key(service: _Service) -> Spot:
    """Where the service says how it prefills; a base may stand anywhere."""
    own = service.document.at("spec", "prefill")
    return own.key if own.there else service.document.key


def _main(pod: Node, document: Node) -> Node:
    """The engine's container: `main`, the one that an annotation names, or the first one."""
    containers = pod.at("containers").items
    aimed = document.at("metadata", "annotations", "serving.kserve.io/exp-dra-container-name").word()
    for name in (_MAIN, aimed):
        for each in containers:
            if each.at("name").word() == name:
                return each
    return containers[0] if containers else Node("null", pod.spot)


def _runs(
    service: _Service, part: Node, main: Node, built_in: Mapping[str, Quote], *, main_workload: bool
) -> tuple[tuple[Run, ...], Environment]:
    """The engine by the container's own command; without one by the preset that the service gets."""
    if main.at("command").there:
        runs, around = container_runs(main, service.stream, built_in)
        if runs:
            return tuple(_opened(run) for run in leading(runs)), around
    around = environment(main, service.stream, built_in)
    more = around.variables.get(_MORE_ARGUMENTS)
    words = (
        *_preset_words(service, part, main_workload=main_workload),
        *(_split(more, around.variables) if more is not None else ()),
        *words_of(main.at("args"), around.variables),
    )
    run = Run(_engine(service, main), words, around.variables)
    return (_opened(run),), around


def _engine(service: _Service, main: Node) -> str:
    """vLLM, unless the runtime or the image is SGLang's."""
    said = f"{service.spec.at('runtime').word()} {main.at('image').word()}".lower()
    return "sglang" if "sglang" in said else "vllm"


def _opened(run: Run) -> Run:
    """The run with templates that nothing fills left open, and without the variable whose words stand in the command."""
    variables = {name: value for name, value in run.variables.items() if name != _MORE_ARGUMENTS}
    return Run(run.engine, tuple(left_open(word) for word in run.command), variables)


def _split(text: Quote, variables: Mapping[str, Quote]) -> tuple[Quote, ...]:
    """The words of one text, as the preset's shell splits it."""
    return next((command.words for command in read_script(text, variables)), ())


# What keys stand for ------------------------------------------------------------------------------------------


def _preset_words(service: _Service, part: Node, *, main_workload: bool) -> tuple[Quote, ...]:
    """The flags that the presets, and the controller, put into the command."""
    spec, layout = service.spec, part.at("parallelism")
    words = [
        *_model_words(spec),
        *from_table(layout, _LAYOUT),
        *switched(layout.at("expert"), "--enable-expert-parallel"),
    ]
    spread = _pods(part)
    if spread is not None and not _is_data_parallel(layout):
        words += [Quote("--nnodes", spread.spot, "inferred"), spread._replace(origin="inferred")]
    words += _adapter_words(spec.at("model", "lora"))
    words += _offloading_words(spec.at("kvCacheOffloading"))
    if main_workload:
        words += _speculation_words(spec.at("speculativeDecoding"))
    return tuple(words)


def _model_words(spec: Node) -> tuple[Quote, ...]:
    """A model that is no Hub's, as it stands in the file; the preset mounts it at /mnt/models."""
    uri = spec.at("model", "uri").quote()
    return () if uri is None or trace_model(uri) is not None else (Quote("--model", uri.spot), uri)


def _adapter_words(lora: Node) -> list[Quote]:
    adapters = lora.at("adapters").items
    if not adapters:
        return []
    spot = lora.at("adapters").spot
    most = lora.at("maxAdapters").quote() or Quote(str(len(adapters)), spot, "default", why="the number of adapters")
    rank = lora.at("maxRank").quote() or Quote(_LORA_RANK, spot, "default", why="maxRank")
    return [
        Quote("--enable-lora", spot),
        Quote("--max-loras", most.spot, most.origin),
        most,
        Quote("--max-lora-rank", rank.spot, rank.origin),
        rank,
    ]


def _speculation_words(node: Node) -> list[Quote]:
    speculator = node.at("speculator")
    uri = speculator.at("model", "uri").quote()
    traced = trace_model(uri) if uri is not None else None
    words = [*from_table(node, _SPECULATION)]
    if uri is not None:
        words += [Quote("--speculative-config.model", uri.spot), traced.model if traced is not None else uri]
    return [*words, *from_table(speculator, _SPECULATOR)]


def _offloading_words(node: Node) -> list[Quote]:
    """The cache beside the GPU, in the memory of the host."""
    size = node.at("cpu", "size").quote() or node.at("cpu").quote()
    number = _bytes(size.text) if size is not None else None
    if size is None or number is None:
        return []
    config = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": number},
    }
    text = json.dumps(config, separators=(",", ":"))
    return [Quote("--kv-transfer-config", size.spot, "inferred"), Quote(text, size.spot, "inferred")]


def _bytes(quantity: str) -> int | None:
    found = _QUANTITY.fullmatch(quantity.strip())
    return int(float(found.group(1)) * _UNITS[found.group(2) or ""]) if found else None


def _is_data_parallel(layout: Node) -> bool:
    return any(layout.at(key).word() not in ("", "0") for key in ("data", "dataLocal"))


def _pods(part: Node) -> Quote | None:
    """Pods of one engine, where it has workers: ranks of data parallelism over those of one pod, else pipeline stages."""
    layout = part.at("parallelism")
    if not part.at("worker").there:
        return None
    if not _is_data_parallel(layout):
        return layout.at("pipeline").quote()
    data, local = layout.at("data").quote(), layout.at("dataLocal").quote()
    if data is None:
        return None
    ranks, own = data.whole_number(), 1 if local is None else local.whole_number()
    return counted(max(ranks // own, 1), data, "data / dataLocal") if ranks and own else None


def _managed_devices(service: _Service) -> Quote | None:
    """GPUs that annotations of the service let the controller claim."""
    annotations = service.document.at("metadata", "annotations")
    kind = annotations.at(_DEVICE_CLASS).quote()
    if kind is None or "gpu" not in kind.text:
        return None
    return annotations.at(_DEVICE_COUNT).quote() or Quote("1", kind.spot, "default", why="device-count")


# Templates ----------------------------------------------------------------------------------------------------


def _served_name(service: _Service) -> Quote:
    """`spec.model.name`, else the name of the service."""
    stated_name = service.spec.at("model", "name").quote()
    return stated_name or Quote(service.name, service.document.spot, "default", why="metadata.name")


def _filled(node: Node, service: _Service) -> Node:
    """The node with the controller's templates filled in."""

    def lookup(path: str) -> str | None:
        if path == ".Spec.Model.Name":
            return _served_name(service).text
        if path.startswith(".Spec."):
            keys = [f"{key[:1].lower()}{key[1:]}" for key in path.split(".")[2:]]
            return service.spec.at(*keys).word()
        match path:
            case ".ObjectMeta.Name":
                return service.name
            case ".ObjectMeta.Namespace":
                return service.document.at("metadata", "namespace").word() or "default"
            case ".GlobalConfig.EnableTLS":
                return ""
            case _ if path.startswith("kvTransferConfig "):
                words = _offloading_words(service.spec.at("kvCacheOffloading"))
                return f"--kv-transfer-config '{words[1].text}'" if words else ""
            case _ if path.startswith("shutdownTimeout "):
                return path.rpartition(" ")[2]
            case _:
                return None

    return filled(node, lookup)
