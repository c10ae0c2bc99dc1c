"""KServe's InferenceService (v1beta1): a predictor with a model and flags, run by a ServingRuntime, or containers of its own.

Source: kserve/kserve pkg/apis/serving/v1beta1, config/runtimes; the runtime's container and the predictor's are merged, and
their `args` joined (pkg/controller/v1beta1/inferenceservice/utils, MergeRuntimeContainers).
"""

from __future__ import annotations

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote
from moeplan.sources.deployments.containers import (
    container_runs,
    environment,
    gpus_of,
    huggingfaceserver_words,
    slice_of,
    words_of,
)
from moeplan.sources.deployments.device_claims import claimed_gpus
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.gangs import leading
from moeplan.sources.deployments.go_templates import filled
from moeplan.sources.deployments.gpu_names import gpu_of_pod
from moeplan.sources.deployments.helm_values import left_open
from moeplan.sources.deployments.identity import Evidence
from moeplan.sources.deployments.merging import merged
from moeplan.sources.deployments.model_names import trace_model
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.object_lists import object_name
from moeplan.sources.deployments.objects import find_object, most_replicas, named
from moeplan.sources.deployments.pods import read_pod, with_role
from moeplan.sources.deployments.record import moeplan_annotations, recorded, with_slice
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import has_flag

KIND = "kserve.inferenceservice"
_RUNTIMES = ("ServingRuntime", "ClusterServingRuntime")
_FORMATS = ("huggingface", "vllm")
"""Model formats that are served by vLLM unless a runtime says otherwise."""
_MAIN = "kserve-container"
_MOUNT = "/mnt/models"
"""Where the storage initializer lays the weights."""
_LAYOUT = {"tensorParallelSize": "--tensor-parallel-size", "pipelineParallelSize": "--pipeline-parallel-size"}
_SHORT = {"--tensor-parallel-size": "-tp", "--pipeline-parallel-size": "-pp"}


def recognises(document: Node) -> bool:
    """By kind and API group; runtimes, which run nothing by themselves, too."""
    kind, version = document.at("kind").word(), document.at("apiVersion").word()
    return kind in ("InferenceService", *_RUNTIMES) and version.startswith("serving.kserve.io/")


def read(document: Node, stream: Stream) -> Found:
    """One deployment: the predictor. Transformers and explainers run no engine."""
    if document.at("kind").word() in _RUNTIMES:
        return Found(passed_over=(named(document, stream),))
    predictor = document.at("spec", "predictor")
    name = named(document, stream)
    low, high = predictor.at("minReplicas").quote(), predictor.at("maxReplicas").quote()
    most = (high if high is not None and high.text != "0" else None) or most_replicas(stream, "InferenceService", name)
    base = Deployed(
        KIND,
        name,
        document.key,
        gang=Gang(replicas=low, max_replicas=most),
        annotations=moeplan_annotations(document.at("metadata", "annotations"), predictor.at("annotations")),
    )
    if predictor.at("model").there:
        found = _by_model(document, predictor, base, stream)
    else:
        found = read_pod(predictor, base, stream, evidence=_evidence(predictor.at("containers", 0), predictor))
    beside = tuple(each for each in ("transformer", "explainer") if document.at("spec", each).there)
    return found._replace(passed_over=(*found.passed_over, *beside))


def _by_model(document: Node, predictor: Node, base: Deployed, stream: Stream) -> Found:
    """A predictor that leaves its command to a runtime."""
    model = predictor.at("model")
    runtime = _runtime(model, stream)
    container = _container(model, runtime, base.name)
    layout = _layout(predictor, runtime)
    runs, secrets, remarks = _runs(model, container, runtime, layout, stream)
    if not runs:
        return Found(secrets=secrets, passed_over=(base.name,))
    gpus: Quote | FileRemark | None = gpus_of(model.at("resources")) or gpus_of(container.at("resources"))
    gpus = gpus or claimed_gpus(container, predictor, stream)
    if isinstance(gpus, FileRemark):
        remarks = (*remarks, gpus)
        gpus = None
    tensor, pipeline = layout.get("--tensor-parallel-size"), layout.get("--pipeline-parallel-size")
    if gpus is None and tensor is not None:
        gpus = tensor._replace(origin="inferred", why="tensorParallelSize")
    whole = base._replace(
        image=container.at("image").quote(),
        gpu=with_slice(
            gpu_of_pod(predictor) or (gpu_of_pod(runtime.at("spec")) if runtime is not None else None),
            slice_of(container.at("resources")),
        ),
        gang=base.gang._replace(
            gpus_per_pod=gpus,
            pods_per_engine=None if pipeline is None or pipeline.text == "1" else pipeline,
        ),
        remarks=remarks,
    )
    deployments = tuple(with_role(each) for each in recorded(whole, runs, _evidence(model, predictor)))
    return Found(deployments, secrets=secrets)


def _runs(
    model: Node, container: Node, runtime: Node | None, layout: dict[str, Quote], stream: Stream
) -> tuple[tuple[Run, ...], tuple[PlainSecret, ...], tuple[FileRemark, ...]]:
    """The engine of the runtime's command; without a command that of the model's format."""
    built_in = {
        "MODEL_DIR": Quote(_MOUNT, model.spot, "default", why="the storage initializer"),
        "TENSOR_PARALLEL_SIZE": layout.get("--tensor-parallel-size"),
        "PIPELINE_PARALLEL_SIZE": layout.get("--pipeline-parallel-size"),
    }
    told = {name: quote for name, quote in built_in.items() if quote is not None}
    runs, around = container_runs(container, stream, told)
    if runs:
        return tuple(_with_layout(run, layout) for run in leading(runs)), around.secrets, around.remarks
    kind = model.at("modelFormat", "name").word().lower()
    name = model.at("runtime").quote()
    said = f"{kind} {name.text if name is not None else ''}".lower()
    if kind not in _FORMATS and "vllm" not in said and "huggingfaceserver" not in said:
        return (), around.secrets, ()
    around = environment(container, stream, told)
    words = words_of(container.at("args"), around.variables)
    engine, command = huggingfaceserver_words(words) if kind == "huggingface" else ("vllm", words)
    own = name is None or name.text.startswith("kserve-")
    remarks = around.remarks if own or runtime is not None else (*around.remarks, _runtime_missing(name))
    return (_with_layout(Run(engine, command, around.variables), layout),), around.secrets, remarks


def _with_layout(run: Run, layout: dict[str, Quote]) -> Run:
    """The run with the degrees of `workerSpec`, where its command does not hold them."""
    words = [
        word
        for flag, quote in layout.items()
        if not has_flag(run.command, flag, _SHORT[flag])
        for word in (Quote(flag, quote.spot), quote)
    ]
    return run._replace(command=tuple(left_open(word) for word in (*run.command, *words)))


def _layout(predictor: Node, runtime: Node | None) -> dict[str, Quote]:
    """The degrees of `workerSpec`, by flag; the service's count over the runtime's."""
    own = predictor.at("workerSpec")
    if not own.there and "workerSpec" not in predictor:
        return {}
    shared = runtime.at("spec", "workerSpec") if runtime is not None else Node("null", own.spot)
    found: dict[str, Quote] = {}
    for key, flag in _LAYOUT.items():
        quote = own.at(key).quote() or shared.at(key).quote()
        if quote is not None:
            found[flag] = quote
    return found


def _runtime(model: Node, stream: Stream) -> Node | None:
    """The runtime that is named, or the first of the text that takes the model's format."""
    name = model.at("runtime").word()
    if name:
        return find_object(stream, _RUNTIMES, name)
    kind = model.at("modelFormat", "name").word()
    for each in (each for kind in _RUNTIMES for each in stream.objects.get(kind, ())):
        formats = each.at("spec", "supportedModelFormats")
        if any(entry.at("name").word() == kind and entry.at("autoSelect").on for entry in formats):
            return each
    return None


def _container(model: Node, runtime: Node | None, name: str) -> Node:
    """The runtime's container with the model's own laid over it, and the arguments of both."""
    if runtime is None:
        return model
    containers = runtime.at("spec", "containers")
    base = next((each for each in containers if each.at("name").word() == _MAIN), containers.at(0))
    base = filled(base, lambda path: name if path == ".Name" else object_name(runtime) if path == ".Runtime" else None)
    whole = merged(base, model)
    arguments = Node("list", model.at("args").spot, items=[*base.at("args").items, *model.at("args").items])
    return Node("map", model.spot, entries={**whole.entries, "args": arguments})


def _evidence(model: Node, predictor: Node) -> Evidence:
    """The model of `storageUri`, or of `storageUris` for the folder of the weights."""
    uri = model.at("storageUri").quote() or predictor.at("storageUri").quote()
    if uri is None:
        uri = predictor.at("storageUris", 0, "uri").quote() or model.at("storageUris", 0, "uri").quote()
    return Evidence(named=trace_model(uri) if uri is not None else None)


def _runtime_missing(name: Quote | None) -> FileRemark:
    assert name is not None
    told = f"the runtime {name.text} is not in this text: flags that it sets are left out"
    return FileRemark("runtime-missing", told, name.spot, "check the ServingRuntime in the same stream")
