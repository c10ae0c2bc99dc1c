"""What readers of Kubernetes' objects share: patches laid over bases, templates, roles, nodes of one engine."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Deployed, Gang, Quote, Spot
from moeplan.sources.deployments.gangs import PodGroup, follows, gang_of, nodes_of, num_gpus, spread
from moeplan.sources.deployments.go_templates import filled_text
from moeplan.sources.deployments.merging import merged
from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.roles import role_of_command, role_of_labels


def node(text: str) -> Node:
    return compose(text).documents[0]


def words(text: str) -> tuple[Quote, ...]:
    return tuple(Quote(word, Spot(1)) for word in text.split())


def quote(text: str, line: int = 1) -> Quote:
    return Quote(text, Spot(line))


@pytest.mark.parametrize(
    ("base", "patch", "expected"),
    [
        ("{a: 1, b: {c: 2}}", "{b: {d: 3}}", {"a": 1, "b": {"c": 2, "d": 3}}),
        ("{args: [x, y]}", "{args: [z]}", {"args": ["z"]}),
        (
            "{env: [{name: A, value: old}, {name: B, value: kept}]}",
            "{env: [{name: C, value: more}, {name: A, value: new}]}",
            {
                "env": [
                    {"name": "A", "value": "new"},
                    {"name": "B", "value": "kept"},
                    {"name": "C", "value": "more"},
                ]
            },
        ),
        (
            "{mounts: [{name: v, mountPath: /a}]}",
            "{mounts: [{mountPath: /a, readOnly: true}]}",
            {"mounts": [{"name": "v", "mountPath": "/a", "readOnly": True}]},
        ),
        ("{a: {b: 1}}", "{a: null}", {"a": None}),
        ("{a: 1}", "{a: [2]}", {"a": [2]}),
    ],
)
def test_patches_over_bases(base: str, patch: str, expected: object) -> None:
    assert merged(node(base), node(patch)).plain() == expected


def test_what_is_merged_keeps_its_place() -> None:
    whole = merged(node("a: 1\nb: 2\n"), node("\n\n\nb: 3\n"))
    assert [whole.at(key).spot.line for key in ("a", "b")] == [1, 4]


VALUES = {".Spec.Name": "shown", ".Spec.On": "true", ".Spec.Zero": "0", ".Spec.None": "", "call .Spec.X": "made"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--name {{ .Spec.Name }} {{.Spec.Name}}", "--name shown shown"),
        ("{{ or .Spec.None 5 }} {{ or .Spec.Name 5 }} {{ or .Spec.Zero 5 }}", "5 shown 5"),
        ("{{ if .Spec.On }}yes{{ else }}no{{ end }}", "yes"),
        ("{{ if .Spec.None }}yes{{ else }}no{{ end }}", "no"),
        ("a {{- if .Spec.On -}}\n  {{ if .Spec.Zero }}x{{ end }}b {{ .Spec.Name }}{{- end }} c", "a \n  b shown c"),
        ("{{ call .Spec.X }}", "made"),
        # What nobody knows stays one word.
        ("--x {{ other .Spec.X }}", "--x {{other_.Spec.X}}"),
        ("{{ if .Other }}--flag{{ end }}", "{{if_.Other}}--flag{{end}}"),
        ("{{ .Spec.Name", "{{ .Spec.Name"),
    ],
)
def test_templates(text: str, expected: str) -> None:
    assert filled_text(text, VALUES.get) == expected


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("--disaggregation-mode=prefill", "prefill"),
        ("--disaggregation-mode decode", "decode"),
        ("--disaggregation-mode null", None),
        ("--is-prefill-worker", "prefill"),
        ("--server_role context", "prefill"),
        ('--kv-transfer-config {"kv_role":"kv_consumer"}', "decode"),
        ('--kv_transfer_config={"kv_connector":"NixlConnector","kv_role":"kv_both"}', None),
        ("--kv-transfer-config.kv_role kv_producer", "prefill"),
        ("--kv-transfer-config {broken", None),
        ("--kv-transfer-config [1]", None),
        ("--tp 8", None),
    ],
)
def test_roles_by_flags(text: str, role: str | None) -> None:
    assert role_of_command(words(text)) == role


def test_roles_by_labels() -> None:
    assert role_of_labels(node("{app: decode}"), node("{llm-d.ai/role: prefill}")) == "prefill"
    # Both phases, and a name that is no label of a role.
    assert role_of_labels(node("{llm-d.ai/role: both, app: decode}")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--headless", True),
        ("--node-rank 1", True),
        ("--node_rank=0", False),
        ("--data-parallel-start-rank 8", True),
        ("--data-parallel-rank 0", False),
        ("--node-rank $RANK", False),
    ],
)
def test_commands_that_follow_another(text: str, *, expected: bool) -> None:
    assert follows(words(text)) is expected


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("--nnodes 2", "2"),
        ("--nnodes=1", None),
        ("--nnodes=0", None),
        ("--data-parallel-size 16 --data-parallel-size-local 8", "2"),
        ("-dp 16 -dpl 4", "4"),
        ("--data-parallel-size 8 --data-parallel-size-local 8", None),
        ("--data-parallel-size 10 --data-parallel-size-local 4", None),
        ("--data-parallel-size 16", None),
    ],
)
def test_nodes_that_a_command_tells_of(text: str, nodes: str | None) -> None:
    found = nodes_of(words(text))
    assert (found.text if found else None) == nodes


@pytest.mark.parametrize(
    ("replicas", "pods", "engines"),
    [
        ("4", "2", "2"),  # two engines of two pods
        ("1", "2", "1"),  # the other node is an object of its own
        (None, "2", None),
        ("3", "3", None),  # three pods that are told to be two: all of them belong together
    ],
)
def test_pods_of_a_workload(replicas: str | None, pods: str, engines: str | None) -> None:
    gang = Gang(quote("8"), None, quote(replicas) if replicas else None)
    found = spread(Deployed("k8s.statefulset", "x", Spot(1), command=words("--nnodes 2"), gang=gang)).gang
    assert found.pods_per_engine is not None
    assert (found.pods_per_engine.text, found.replicas.text if found.replicas else None) == (pods, engines)


def test_the_gpus_of_pods_that_are_not_alike() -> None:
    head, workers = PodGroup(quote("4"), 1, quote("1")), PodGroup(quote("8"), 2, quote("2", 7))
    assert num_gpus((head, workers)) == 4 + 2 * 8
    assert gang_of(Gang(), (head, workers)).gpus_per_engine == 20
    # A head without GPUs is no pod of the engine.
    alone = gang_of(Gang(), (PodGroup(None, 1, quote("1")), workers))
    assert alone.pods_per_engine is not None
    assert (alone.gpus_per_engine, alone.pods_per_engine.spot.line, alone.pods_per_engine.origin) == (16, 7, "stated")
    assert gang_of(Gang(), (PodGroup(quote("$N"), 1, quote("1")),)).gpus_per_engine is None
