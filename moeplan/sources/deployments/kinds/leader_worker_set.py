"""LeaderWorkerSet: each replica is a group of pods, one leader and its workers, and one engine. DisaggregatedSet: several.

Source: kubernetes-sigs/lws api/leaderworkerset/v1, api/disaggregatedset/v1 and pkg/utils/pod (the variables of every
container).
"""

from __future__ import annotations

from moeplan.core.deployed import Deployed, Gang, Quote
from moeplan.sources.deployments.containers import gpus_of
from moeplan.sources.deployments.gangs import PodGroup, gang_of, times
from moeplan.sources.deployments.gpu_names import gpu_of_pod
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.object_lists import object_name
from moeplan.sources.deployments.objects import most_replicas, named
from moeplan.sources.deployments.pods import read_pod
from moeplan.sources.deployments.record import moeplan_annotations
from moeplan.sources.deployments.roles import role_of_labels, role_of_word
from moeplan.sources.deployments.stream import Found, Stream

KIND = "LeaderWorkerSet"
API_VERSION = "leaderworkerset.x-k8s.io/v1"
VARIABLES = ("LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX")
"""What every container finds: the leader's address, the pods of the group, and the pod's own number."""
_SETS = "DisaggregatedSet"


def recognises(document: Node) -> bool:
    """By kind and API group."""
    kind, version = document.at("kind").word(), document.at("apiVersion").word()
    return (kind == KIND and version.startswith("leaderworkerset.")) or (
        kind == _SETS and version.startswith("disaggregatedset.")
    )


def read(document: Node, stream: Stream) -> Found:
    """The engines of a set, or of each role of a set of them, which holds all of its roles once in each slice."""
    name, spec = named(document, stream), document.at("spec")
    if document.at("kind").word() == KIND:
        base = Deployed("k8s.leaderworkerset", name, document.key, gang=_gang(spec, most_replicas(stream, KIND, name)))
        return _read_set(document, document, base, stream)
    roles = []
    for role in spec.at("roles"):
        role_name = role.at("name").word()
        gang = _gang(role.at("spec"))
        base = Deployed(
            "k8s.disaggregatedset",
            f"{name}-{role_name}",
            role.key,
            gang=gang._replace(replicas=times(gang.replicas, spec.at("slices").quote())),
            role=role_of_word(role_name) or "aggregate",
        )
        roles.append(_read_set(document, role, base, stream))
    return Found(
        tuple(each for role in roles for each in role.deployments),
        tuple(each for role in roles for each in role.remarks),
        tuple(each for role in roles for each in role.secrets),
        tuple(each for role in roles for each in role.passed_over),
    )


def _gang(spec: Node, most: Quote | None = None) -> Gang:
    return Gang(None, spec.at("leaderWorkerTemplate", "size").quote(), spec.at("replicas").quote(), most)


def _read_set(document: Node, holder: Node, base: Deployed, stream: Stream) -> Found:
    """The engines of the leader's pod; of the workers' where the leader starts none, or has no template of its own.

    `holder` is what has the set's metadata and spec: the object itself, or a role of it.
    """
    group = holder.at("spec", "leaderWorkerTemplate")
    leader, worker = group.at("leaderTemplate"), group.at("workerTemplate")
    templates = [template for template in (leader, worker) if template.at("spec", "containers").items]
    size = base.gang.pods_per_engine
    labels = [holder.at("metadata", "labels"), *(template.at("metadata", "labels") for template in templates)]
    base = base._replace(
        role=role_of_labels(*labels) or base.role,
        annotations=moeplan_annotations(
            document.at("metadata", "annotations"),
            *((holder.at("metadata", "annotations"),) if holder is not document else ()),
            *(template.at("metadata", "annotations") for template in reversed(templates)),
        ),
    )
    built_in = group_variables(document, size, "", *VARIABLES)
    found = Found(passed_over=(base.name,))
    for template in templates:
        found = read_pod(template.at("spec"), base, stream, built_in)
        if found.deployments:
            break
    if len(templates) < 2:
        return found
    return found._replace(deployments=tuple(with_workers(each, worker.at("spec"), size) for each in found.deployments))


def group_variables(
    document: Node, size: Quote | None, start: str, address: str, number: str, index: str
) -> dict[str, Quote]:
    """What every container of a group finds in its environment, as the leader sees it."""
    name = object_name(document)
    namespace = document.at("metadata", "namespace").word() or "default"
    spot = size.spot if size is not None else document.spot
    why = f"{start}{number}"
    return {
        f"{start}{address}": Quote(f"{name}-0.{name}.{namespace}", document.spot, "inferred", why="the leader's pod"),
        f"{start}{number}": size._replace(why=why) if size is not None else Quote("1", spot, "default", why=why),
        f"{start}{index}": Quote("0", spot, "inferred", why="the leader"),
    }


def with_workers(deployed: Deployed, worker: Node, size: Quote | None) -> Deployed:
    """The engine with the GPUs of its workers, where these have a template of their own."""
    pods = 1 if size is None else size.whole_number()
    if pods is None or size is None:
        return deployed
    own = _gpus(worker)
    leader = deployed.gang.gpus_per_pod
    if own is not None and (leader is None or own.text != leader.text):
        groups = (PodGroup(leader, 1, size), PodGroup(own, pods - 1, size))
        deployed = deployed._replace(gang=gang_of(deployed.gang, groups))
    return deployed if deployed.gpu is not None else deployed._replace(gpu=gpu_of_pod(worker))


def _gpus(pod: Node) -> Quote | None:
    """The GPUs of the first container that asks for some."""
    return next((gpus for node in pod.at("containers") if (gpus := gpus_of(node.at("resources"))) is not None), None)
