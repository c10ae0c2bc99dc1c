"""Ray: RayService and Ray Serve's own YAML with `ray.serve.llm`; RayCluster and AIBrix's RayClusterFleet with a command.

Ray places every engine on as many GPUs as its layout needs, wherever the cluster has them. Source: ray-project/ray
python/ray/llm/_internal/serve/core/configs/llm_config.py; ray-project/kuberay ray-operator/apis/ray/v1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote, Role
from moeplan.sources.deployments.containers import gpus_of
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.gangs import PodGroup, counted, gang_of, num_gpus, ranks_of
from moeplan.sources.deployments.gpu_names import gpu_of_pod
from moeplan.sources.deployments.identity import Evidence
from moeplan.sources.deployments.kinds.vllm_config import option_words
from moeplan.sources.deployments.model_names import trace_model
from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.objects import most_replicas, named
from moeplan.sources.deployments.plain_secrets import hidden, is_plain_secret
from moeplan.sources.deployments.pods import read_pod, with_role
from moeplan.sources.deployments.record import moeplan_annotations, recorded
from moeplan.sources.deployments.roles import role_of_labels
from moeplan.sources.deployments.stream import Found, Stream

_SERVE = "ray.serve"
_SERVICE = "ray.rayservice"
_LLM = "ray.llm"
_CLUSTERS = {"RayCluster": "ray.raycluster", "RayClusterFleet": "aibrix.rayclusterfleet"}
_AUTO_MOST = "100"
"""`max_replicas` of `num_replicas: auto` (ray/serve/_private/config.py)."""


class _Cluster(NamedTuple):
    """What a Ray cluster is made of."""

    groups: tuple[PodGroup, ...]
    most_gpus: int
    """With all workers that its autoscaler may add."""
    fixed: bool
    """True where nothing adds workers."""
    image: Quote | None
    gpu: Quote | None


class _Engine(NamedTuple):
    """One LLM of a Serve application."""

    config: Node
    role: Role
    application: Node


def recognises(document: Node) -> bool:
    """By kind and API group, by applications that are imported, or as the configuration of one LLM in a file of its own."""
    kind, version = document.at("kind").word(), document.at("apiVersion").word()
    if kind:
        return (kind == "RayService" or kind in _CLUSTERS) and version.startswith(
            ("ray.io/", "orchestration.aibrix.ai/")
        )
    return "model_loading_config" in document or any(
        "import_path" in application for application in document.at("applications")
    )


def read(document: Node, stream: Stream) -> Found:
    """The engines of a Serve configuration, or the one in the head of a cluster."""
    kind = document.at("kind").word()
    if kind in _CLUSTERS:
        return _read_cluster(document, kind, stream)
    base = Deployed(
        _SERVICE if kind else _SERVE,
        named(document, stream),
        document.key,
        annotations=moeplan_annotations(document.at("metadata", "annotations")),
    )
    if "model_loading_config" in document:
        secrets: list[PlainSecret] = []
        engine = _Engine(document, "aggregate", Node("null", document.spot))
        return Found(_deployed(engine, base._replace(kind=_LLM), None, secrets, alone=True), secrets=tuple(secrets))
    if not kind:
        return _read_serve(document, base, None)
    cluster = _cluster(document.at("spec", "rayClusterConfig"))
    config = document.at("spec", "serveConfigV2")
    if config.kind == "map":
        return _read_serve(config, base, cluster)
    text = config.quote()
    if text is None:
        return Found(passed_over=(base.name,))
    composed = compose(text.text, text.spot.line, text.spot.path, text.spot.column)
    found = _read_serve(composed.documents[0], base, cluster) if composed.documents else Found()
    return found._replace(remarks=(*composed.remarks, *found.remarks))


# Serve --------------------------------------------------------------------------------------------------------


def _read_serve(document: Node, base: Deployed, cluster: _Cluster | None) -> Found:
    """One deployment for each LLM; applications without any are passed over."""
    engines: list[_Engine] = []
    remarks: list[FileRemark] = []
    passed_over: list[str] = []
    for application in document.at("applications"):
        found = [engine for engine in _engines(application) if engine.config.there]
        for engine in found:
            if engine.config.kind == "map":
                engines.append(engine)
            else:
                remarks.append(_elsewhere(engine.config))
        if not found:
            passed_over.append(application.first("name", "import_path").word() or base.name)
    deployments: list[Deployed] = []
    secrets: list[PlainSecret] = []
    for engine in engines:
        own = base if len(engines) == 1 else base._replace(spot=engine.config.key)
        deployments += _deployed(engine, own, cluster, secrets, alone=len(engines) == 1)
    return Found(tuple(deployments), tuple(remarks), tuple(secrets), tuple(passed_over))


def _engines(application: Node) -> Iterator[_Engine]:
    arguments = application.at("args")
    configs = arguments.at("llm_configs")
    for config in (*configs.items, arguments.at("llm_config"), *([configs] if configs.kind == "map" else ())):
        yield _Engine(config, "aggregate", application)
    yield _Engine(arguments.at("prefill_config"), "prefill", application)
    yield _Engine(arguments.at("decode_config"), "decode", application)


def _deployed(
    engine: _Engine, base: Deployed, cluster: _Cluster | None, secrets: list[PlainSecret], *, alone: bool
) -> tuple[Deployed, ...]:
    config = engine.config
    loading = config.at("model_loading_config")
    model_id, source = loading.at("model_id").quote(), loading.at("model_source")
    named_by = source.quote() if source.there else model_id
    traced = trace_model(named_by) if named_by is not None else None
    local = source.quote() or source.at("bucket_uri").quote()
    words = _words(config.at("engine_kwargs"))
    if traced is None and local is not None:
        words = (Quote("--model", local.spot), local, *words)
    replicas, most = _copies(config.at("deployment_config"))
    name = model_id.text if model_id is not None else base.name
    deployed = base._replace(
        name=name if engine.role == "aggregate" else f"{name}-{engine.role}",
        image=cluster.image if cluster is not None else None,
        gpu=_gpu(config.at("accelerator_type").quote(), cluster.gpu if cluster is not None else None),
        gang=_gang(config, words, Gang(None, None, replicas, most), cluster, alone=alone),
        role=engine.role,
    )
    backend = "sglang" if config.at("llm_engine").word().lower() == "sglang" else "vllm"
    run = Run(backend, words, _variables(engine, secrets))
    return tuple(with_role(each) for each in recorded(deployed, [run], Evidence(named=traced, served_as=model_id)))


def _words(engine_kwargs: Node) -> tuple[Quote, ...]:
    """The engine's arguments as flags, with dashes as people write them."""
    return tuple(_dashed(word) for word in option_words(engine_kwargs))


def _dashed(word: Quote) -> Quote:
    if not word.text.startswith("--"):
        return word
    flag, sign, value = word.text.partition("=")
    return word._replace(text=f"{flag.replace('_', '-')}{sign}{value}")


def _copies(node: Node) -> tuple[Quote | None, Quote | None]:
    """Replicas, and how many an autoscaler may run."""
    scaling, stated = node.at("autoscaling_config"), node.at("num_replicas").quote()
    low, high = scaling.at("min_replicas").quote(), scaling.at("max_replicas").quote()
    if stated is not None and stated.text == "auto":
        return low or Quote("1", stated.spot, "default", why="num_replicas: auto"), high or Quote(
            _AUTO_MOST, stated.spot, "default", why="num_replicas: auto"
        )
    return (stated or low), high


def _variables(engine: _Engine, secrets: list[PlainSecret]) -> dict[str, Quote]:
    """The environment that the application and the LLM set."""
    found: dict[str, Quote] = {}
    for holder in (engine.application, engine.config):
        for name, node in holder.at("runtime_env", "env_vars").entries.items():
            quote = node.quote()
            if quote is None:
                continue
            if is_plain_secret(name, quote.text):
                secrets.append(PlainSecret(name, quote.spot))
            found[name] = hidden(name, quote)
    return found


def _elsewhere(config: Node) -> FileRemark:
    told = f"the LLM {config.word()} is described in a file of its own, which is not read"
    return FileRemark("config-elsewhere", told, config.spot, "write the LLM's configuration into this file")


# GPUs ---------------------------------------------------------------------------------------------------------


def _gang(config: Node, words: Sequence[Quote], gang: Gang, cluster: _Cluster | None, *, alone: bool) -> Gang:
    """The GPUs of one engine: its share of a cluster of its own, else what Ray places it on."""
    bundled = _bundled(config)
    if bundled is not None:
        return gang._replace(gpus_per_pod=bundled)
    if cluster is None or not cluster.groups:
        return gang
    copies = 1 if gang.replicas is None else gang.replicas.whole_number()
    needed, total = ranks_of(words), num_gpus(cluster.groups)
    fixed = cluster.fixed and (gang.max_replicas is None or gang.max_replicas.whole_number() == copies)
    if copies == 1 and ((alone and fixed) or needed is None or needed > cluster.most_gpus):
        return gang_of(gang, cluster.groups)
    share = total // copies if alone and fixed and total and copies and total % copies == 0 else needed
    if share is None:
        return gang
    return _placed(share, gang, cluster)


def _placed(gpus: int, gang: Gang, cluster: _Cluster) -> Gang:
    """So many GPUs on the pods of a cluster: whole pods, or a part of one."""
    holder = next((group for group in cluster.groups if group.gpus is not None), None)
    if holder is None or holder.gpus is None:
        return gang
    each = holder.gpus.whole_number()
    why = "what Ray places one replica on"
    if each and gpus > each and gpus % each == 0:
        return gang._replace(gpus_per_pod=holder.gpus, pods_per_engine=counted(gpus // each, holder.where, why))
    return gang._replace(gpus_per_pod=counted(gpus, holder.gpus, why))


def _gpu(stated: Quote | None, label: Quote | None) -> Quote | None:
    """Ray's name of the card, or the label of the workers' nodes where it says the same more closely (`H100`)."""
    if stated is None or label is None:
        return stated or label
    return label if label.known and stated.text.upper() in label.text.upper() else stated


def _bundled(config: Node) -> Quote | None:
    """The GPUs of the bundles that the configuration asks for itself."""
    bundles = config.at("placement_group_config", "bundles")
    quotes = [quote for bundle in bundles if (quote := bundle.at("GPU").quote()) is not None]
    numbers = [quote.whole_number() for quote in quotes]
    told = [number for number in numbers if number is not None]
    if not quotes or len(told) != len(numbers):
        return None
    return counted(sum(told), quotes[0], "placement_group_config")


def _cluster(spec: Node) -> _Cluster | None:
    """The pods of a cluster's specification; None where there is none."""
    if not spec.there:
        return None
    head = spec.at("headGroupSpec")
    pod = head.at("template", "spec")
    idle = head.at("rayStartParams", "num-gpus").word() == "0"
    gpus = None if idle else _gpus(pod)
    groups = [PodGroup(gpus, 1, Quote("1", head.spot, "default", why="the head"))]
    most = (gpus.whole_number() or 0) if gpus is not None else 0
    scales = spec.at("enableInTreeAutoscaling").on
    gpu = gpu_of_pod(pod) if gpus is not None else None
    for group in spec.at("workerGroupSpecs"):
        worker = group.at("template", "spec")
        where = group.at("replicas").quote() or group.at("minReplicas").quote()
        number = where.whole_number() if where is not None else 0
        hosts = group.at("numOfHosts").quote()
        times = (hosts.whole_number() or 1) if hosts is not None else 1
        own = _gpus(worker)
        if number and where is not None:
            groups.append(PodGroup(own, number * times, where))
        high = group.at("maxReplicas").quote() if scales else None
        largest = high.whole_number() if high is not None else number
        most += ((own.whole_number() or 0) if own is not None else 0) * (largest or 0) * times
        gpu = gpu or (gpu_of_pod(worker) if own is not None else None)
    return _Cluster(tuple(groups), most, not scales, pod.at("containers", 0, "image").quote(), gpu)


def _gpus(pod: Node) -> Quote | None:
    return next((gpus for node in pod.at("containers") if (gpus := gpus_of(node.at("resources"))) is not None), None)


# Clusters with a command --------------------------------------------------------------------------------------


def _read_cluster(document: Node, kind: str, stream: Stream) -> Found:
    """The engine that the head's command starts: it spans the whole cluster."""
    name = named(document, stream)
    spec, replicas = document.at("spec"), None
    if kind == "RayClusterFleet":
        replicas = spec.at("replicas").quote()
        spec = spec.at("template", "spec")
    head = spec.at("headGroupSpec", "template")
    cluster = _cluster(spec)
    base = Deployed(
        _CLUSTERS[kind],
        name,
        document.key,
        gpu=cluster.gpu if cluster is not None else None,
        gang=Gang(replicas=replicas, max_replicas=most_replicas(stream, kind, name)),
        role=role_of_labels(document.at("metadata", "labels"), head.at("metadata", "labels")) or "aggregate",
        annotations=moeplan_annotations(
            document.at("metadata", "annotations"),
            document.at("spec", "template", "metadata", "annotations"),
            head.at("metadata", "annotations"),
        ),
    )
    found = read_pod(head.at("spec"), base, stream)
    if cluster is None or len(found.deployments) != 1:
        return found
    return found._replace(
        deployments=tuple(each._replace(gang=gang_of(each.gang, cluster.groups)) for each in found.deployments)
    )
