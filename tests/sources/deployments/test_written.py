"""Deployment files that are written: `moeplan check` finds nothing in them, and estimates what was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moeplan.check import check
from moeplan.core.deployed import Quote, Spot
from moeplan.core.deployment import Value
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.launch import Launch
from moeplan.core.layout import Layout
from moeplan.engines.command_line.writing import launch_command
from moeplan.estimate import Estimate, estimate
from moeplan.sources.deployments.gpu_names import PRODUCT_LABELS, gpu_name, product_label
from moeplan.sources.deployments.images import own_image, version_of_image
from moeplan.sources.deployments.read import read_file
from moeplan.sources.deployments.written import FILE_NAMES, KINDS, Kind, written
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.loaded import Asked
from moeplan.sources.locked_models import lock_text, locked
from moeplan.sources.models import find_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QUESTION = "moeplan plan qwen3 --context 8k"
QWEN, DEEPSEEK = "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-R1"
VERSIONS = {"vllm": "0.33.0", "sglang": "0.5.23", "trtllm": "1.3", "llamacpp": "b11312"}
LIMITS = {"vllm": "--max-num-seqs", "sglang": "--max-running-requests", "trtllm": "--max_batch_size"}
H200, H100 = find_hardware("h200")[0], find_hardware("h100-sxm")[0]


class Case(NamedTuple):
    """A launch, and the options of moeplan that ask for the same."""

    engine: str
    model: str
    layout: Layout
    options: Mapping[str, Any]
    kv_dtype: str | None = None
    utilization: float | None = None
    quantization: str | None = None
    words: tuple[str, ...] = ()
    """What has no option of moeplan's: the engine's own words for it."""


def attention_dp(nodes: int) -> Layout:
    ranks = 8 * nodes
    return Layout(tp=ranks, dp=ranks, ep=ranks, dp_attention=True, num_nodes=nodes, num_gpus=ranks)


WIDE = Layout(dp=16, ep=16, dp_attention=True, num_nodes=2, num_gpus=16)
CASES = {
    "vllm on one card": Case("vllm", QWEN, Layout(), {"tp": 1}, "fp8", 0.9),
    "vllm on eight": Case("vllm", DEEPSEEK, Layout(tp=8, num_gpus=8), {"tp": 8}),
    "vllm in stages": Case("vllm", QWEN, Layout(tp=4, pp=2, pp_layers=(24, 24), num_gpus=8), {"tp": 4, "pp": 2}),
    "vllm in uneven stages": Case(
        "vllm", QWEN, Layout(pp=2, pp_layers=(25, 23), num_gpus=2), {"tp": 1, "pp": 2, "pp_layers": (25, 23)}
    ),
    "vllm with experts apart": Case(
        "vllm", DEEPSEEK, Layout(dp=8, ep=8, dp_attention=True, num_gpus=8), {"tp": 1, "dp": 8, "ep": 8}
    ),
    "vllm with copies of experts": Case(
        "vllm",
        QWEN,
        Layout(dp=4, ep=4, dp_attention=True, redundant_experts=16, num_gpus=4),
        {"tp": 1, "dp": 4, "ep": 4, "redundant_experts": 16},
        words=("--enable-eplb",),
    ),
    "vllm in fp8 on load": Case("vllm", QWEN, Layout(), {"tp": 1, "quant": "fp8-tensor"}, quantization="fp8"),
    "sglang in fp8 on load": Case("sglang", QWEN, Layout(), {"tp": 1, "quant": "fp8-tensor"}, quantization="fp8"),
    "vllm on two nodes": Case("vllm", DEEPSEEK, WIDE, {"tp": 1, "dp": 16, "ep": 16, "nodes": 2}),
    "vllm in stages on two nodes": Case(
        "vllm", DEEPSEEK, Layout(tp=8, pp=2, num_nodes=2, num_gpus=16), {"tp": 8, "pp": 2, "nodes": 2}
    ),
    "sglang on one card": Case("sglang", QWEN, Layout(), {"tp": 1}, "fp8"),
    "sglang on eight": Case("sglang", DEEPSEEK, Layout(tp=8, num_gpus=8), {"tp": 8}),
    "sglang with experts apart": Case(
        "sglang", DEEPSEEK, attention_dp(1), {"tp": 8, "dp": 8, "ep": 8, "dp_attention": True}
    ),
    "sglang on two nodes": Case(
        "sglang", DEEPSEEK, attention_dp(2), {"tp": 16, "dp": 16, "ep": 16, "dp_attention": True, "nodes": 2}
    ),
    "trtllm on one card": Case("trtllm", QWEN, Layout(), {"tp": 1}, "fp8"),
    "trtllm on eight": Case("trtllm", QWEN, Layout(tp=4, pp=2, num_gpus=8), {"tp": 4, "pp": 2}),
    "trtllm with experts apart": Case(
        "trtllm", DEEPSEEK, attention_dp(1), {"tp": 8, "dp": 8, "ep": 8, "dp_attention": True}
    ),
    "llamacpp on one card": Case("llamacpp", QWEN, Layout(), {}),
    "llamacpp on two": Case("llamacpp", QWEN, Layout(pp=2, num_gpus=2), {}, "q8_0"),
}  # fmt: skip
CONTEXT, SEQUENCES = 8192, 16


def launch_of(case: Case) -> Launch:
    return Launch(
        engine=case.engine,
        model=case.model,
        layout=case.layout,
        context_tokens=CONTEXT,
        sequences=SEQUENCES,
        engine_version=VERSIONS[case.engine],
        revision=COMMIT,
        kv_dtype=case.kv_dtype,
        utilization_fraction=case.utilization,
        quantization=case.quantization,
    )


def kinds_of(case: Case) -> Iterator[Kind]:
    """Kinds that can say it."""
    for kind in KINDS:
        if kind == "vllm-yaml" and (case.engine != "vllm" or case.layout.pp_layers == (25, 23)):
            continue
        if kind == "compose" and case.layout.num_nodes > 1:
            continue
        yield kind


def asked(case: Case, concurrency: int | None) -> Estimate:
    """The estimate of the same by moeplan's own options. The limit of sequences has none: it is the engine's flag."""
    limit = {"vllm": -(-SEQUENCES // case.layout.dp), "sglang": SEQUENCES, "trtllm": -(-SEQUENCES // case.layout.dp)}
    flag = LIMITS.get(case.engine)
    return estimate(
        case.model,
        gpu=f"{case.layout.num_gpus}x{H200.profile}",
        engine=case.engine,
        engine_version=VERSIONS[case.engine],
        engine_args=((flag, str(limit[case.engine])) if flag else ()) + case.words,
        context=CONTEXT,
        concurrency=concurrency,
        kv_dtype=case.kv_dtype,
        utilization=case.utilization,
        offline=True,
        **case.options,
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    models = [(name, revision) for name in (QWEN, DEEPSEEK) for revision in (COMMIT, None)]
    rows = []
    for name, revision in models:
        loaded = find_model(name, Asked(offline=True))
        rows.append(locked(name, revision, loaded._replace(revision=revision)))
    (tmp_path / "moeplan.lock").write_text(lock_text(rows), encoding="utf-8")
    return tmp_path


def test_every_case_is_in_some_file() -> None:
    assert {kind for case in CASES.values() for kind in kinds_of(case)} == set(KINDS)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, case in CASES.items() for kind in kinds_of(case)])
def test_check_finds_nothing_and_estimates_what_was_asked(name: str, kind: Kind) -> None:
    case = CASES[name]
    replicas = 1 if kind == "vllm-yaml" else 8 // case.layout.num_gpus if kind == "compose" else 3
    path = Path(FILE_NAMES[kind])
    path.write_text(written(kind, launch_of(case), H200, replicas, launch_command, question=QUESTION))
    found = check(path, locked=True, fail_on="info")
    assert [(finding.code, finding.message) for finding in found.findings] == []
    # llama.cpp makes room for all sequences when it starts; the others for as many as there is room for.
    direct = asked(case, SEQUENCES if case.engine == "llamacpp" else None)
    assert len(found.deployments) == (replicas if kind == "compose" else 1)
    for judged in found.deployments:
        assert (judged.engine, judged.model, judged.gpu) == (case.engine, case.model, H200.profile)
        if case.engine != "llamacpp":
            assert judged.revision == COMMIT
        assert judged.engine_version is not None
        assert judged.engine_version.removesuffix(".0") == VERSIONS[case.engine].removesuffix(".0")
        layout = direct.layout
        assert (judged.tp, judged.pp, judged.dp, judged.ep) == (layout.tp, layout.pp, layout.dp, layout.ep)
        assert judged.gpus_per_engine == case.layout.num_gpus
        if kind == "k8s":
            assert (judged.replicas, judged.total_gpus) == (3, 3 * case.layout.num_gpus)
        memory = judged.memory
        assert memory is not None
        assert memory.context_tokens == CONTEXT
        assert memory.headroom_bytes == direct.verdict.headroom_bytes
        assert memory.headroom_low_bytes == direct.verdict.headroom_low_bytes
        assert memory.kv_tokens == direct.capacity.kv_tokens


def test_the_load_that_was_planned_for_stands_in_the_file() -> None:
    """Where it would not fit, the check of the written file says so."""
    case = CASES["vllm on one card"]
    for kind in KINDS:
        text = written(kind, launch_of(case)._replace(sequences=4000), H200, 1, launch_command)
        path = Path(FILE_NAMES[kind])
        path.write_text(text)
        codes = [finding.code for finding in check(path, locked=True).findings]
        assert codes == ["FIT006"], kind


def test_without_a_revision_the_file_is_told_to_be_unpinned() -> None:
    case = CASES["vllm on one card"]
    Path("a.yaml").write_text(written("k8s", launch_of(case)._replace(revision=None), H200, 1, launch_command))
    assert [finding.code for finding in check("a.yaml", locked=True).findings] == ["HYG001"]


# What stands in them ------------------------------------------------------------------------------------------------


def objects(kind: Kind, case: Case, gpu: Hardware = H200, replicas: int = 2) -> list[Any]:
    return list(yaml.safe_load_all(written(kind, launch_of(case), gpu, replicas, launch_command)))


def test_a_deployment_of_kubernetes() -> None:
    deployment, service = objects("k8s", CASES["vllm on eight"])
    assert (deployment["apiVersion"], deployment["kind"], deployment["spec"]["replicas"]) == (
        "apps/v1",
        "Deployment",
        2,
    )
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    pod = template["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["resources"] == {"requests": {"nvidia.com/gpu": "8"}, "limits": {"nvidia.com/gpu": "8"}}
    assert container["image"] == "vllm/vllm-openai:v0.33.0"
    port = container["ports"][0]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert container["args"][container["args"].index("--port") + 1] == str(port["containerPort"])
    assert {probe: container[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == (
        {key: {"path": "/health", "port": port["name"]} for key in ("startupProbe", "readinessProbe", "livenessProbe")}
    )
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    (memory,) = [volume for volume in pod["volumes"] if volume.get("emptyDir", {}).get("medium") == "Memory"]
    assert mounts[memory["name"]] == "/dev/shm"  # noqa: S108
    (token,) = [each for each in container["env"] if each["name"] == "HF_TOKEN"]
    assert set(token) == {"name", "valueFrom"}
    assert set(token["valueFrom"]) == {"secretKeyRef"}


def test_a_group_of_pods() -> None:
    group, service = objects("k8s", CASES["vllm on two nodes"])
    assert (group["apiVersion"], group["kind"]) == ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
    spec = group["spec"]["leaderWorkerTemplate"]
    assert (group["spec"]["replicas"], spec["size"]) == (2, 2)
    (leader,) = spec["leaderTemplate"]["spec"]["containers"]
    (worker,) = spec["workerTemplate"]["spec"]["containers"]
    assert "readinessProbe" in leader
    assert not {"readinessProbe", "startupProbe", "livenessProbe", "ports"} & set(worker)
    assert worker["args"][worker["args"].index("--node-rank") + 1] == "$(LWS_WORKER_INDEX)"
    assert "--headless" in worker["args"]
    assert "--headless" not in leader["args"]
    assert leader["args"][leader["args"].index("--master-addr") + 1] == "$(LWS_LEADER_ADDRESS)"
    assert leader["resources"] == worker["resources"]
    # Requests go to the leader alone.
    assert service["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"


def test_a_file_of_options_is_mounted_where_the_command_looks() -> None:
    deployment, _, config_map = objects("k8s", CASES["trtllm with experts apart"])
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    path = container["args"][container["args"].index("--extra_llm_api_options") + 1]
    (volume,) = [each for each in pod["volumes"] if "configMap" in each]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == volume["name"]]
    (name,) = config_map["data"]
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    assert path == f"{mount['mountPath']}/{name}"
    assert yaml.safe_load(config_map["data"][name]) == {"enable_attention_dp": True, "revision": COMMIT}


def test_a_compose_file_gives_each_replica_cards_of_its_own() -> None:
    (whole,) = objects("compose", CASES["vllm in uneven stages"], replicas=4)
    cards = [
        service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for service in whole["services"].values()
    ]
    assert sorted(itertools.chain(*cards)) == [str(number) for number in range(8)]
    assert len({service["ports"][0] for service in whole["services"].values()}) == 4
    for service in whole["services"].values():
        assert service["environment"]["VLLM_PP_LAYER_PARTITION"] == "25,23"
        assert service["environment"]["HF_TOKEN"] == "${HF_TOKEN:-}"


def test_a_file_of_options_in_a_compose_file() -> None:
    (whole,) = objects("compose", CASES["trtllm with experts apart"], replicas=1)
    ((name, config),) = whole["configs"].items()
    (service,) = whole["services"].values()
    (reference,) = service["configs"]
    assert reference["source"] == name
    assert service["command"][service["command"].index("--extra_llm_api_options") + 1] == reference["target"]
    assert yaml.safe_load(config["content"])["enable_attention_dp"] is True


def test_a_config_file_of_vllm() -> None:
    (keys,) = objects("vllm-yaml", CASES["vllm on one card"])
    assert keys == {
        "model": QWEN,
        "revision": COMMIT,
        "tensor-parallel-size": 1,
        "max-model-len": CONTEXT,
        "kv-cache-dtype": "fp8",
        "gpu-memory-utilization": 0.9,
        "max-num-seqs": SEQUENCES,
    }
    text = written("vllm-yaml", launch_of(CASES["vllm on two nodes"]), H200, 1, launch_command)
    assert "--node-rank 1 --headless" in text
    assert "node-rank" not in yaml.safe_load(text)


def test_settings_of_vllm_keep_their_kinds() -> None:
    settings: dict[str, Value] = {
        "--enforce-eager": True,
        "--cudagraph-capture-sizes": "1,2,4",
        "--compilation-config": '{"cudagraph_mode":"NONE"}',
    }
    launch = launch_of(CASES["vllm on one card"])._replace(settings=settings)
    keys = yaml.safe_load(written("vllm-yaml", launch, H200, 1, launch_command))
    assert keys["enforce-eager"] is True
    assert keys["cudagraph-capture-sizes"] == [1, 2, 4]
    assert keys["compilation-config"] == '{"cudagraph_mode":"NONE"}'


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_launch_gives_the_same_bytes(kind: Kind) -> None:
    case = CASES["vllm on one card"]
    assert written(kind, launch_of(case), H200, 1, launch_command) == written(
        kind, launch_of(case), H200, 1, launch_command
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_question_is_told_and_says_nothing_itself(kind: Kind) -> None:
    token = "hf_" + "a1B2" * 8
    question = f"moeplan plan x\n# moeplan: gpu=a100\n--- {{{{ .Values }}}} {token} # moeplan: ignore[FIT]"
    text = written(kind, launch_of(CASES["vllm on one card"]), H200, 1, launch_command, question=question)
    first = text.split("\n", 1)[0]
    assert first.startswith("# Written by moeplan ")
    assert "moeplan plan x" in first
    assert token not in text
    Path("a.yaml").write_text(text)
    found = check("a.yaml", locked=True)
    assert not found.findings
    assert found.deployments[0].gpu == H200.profile


# Cards and images ---------------------------------------------------------------------------------------------------

PROFILES = sorted(path.stem for path in (Path(__file__).parents[3] / "profiles" / "hardware").glob("*.yaml"))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_card_is_found_again_in_what_is_written(profile: str) -> None:
    gpu = find_hardware(profile)[0]
    label = product_label(profile)
    if label is not None and not gpu.slice:
        key, value = label
        assert key in PRODUCT_LABELS.values()
        found = find_hardware(gpu_name(value))[0]
        assert (found.profile, found.reading) == (profile, ())
    launch = launch_of(CASES["vllm on one card"])
    if gpu.vendor not in ("nvidia", "amd"):
        with pytest.raises(InputError, match="asks for GPUs of nvidia or amd"):
            written("k8s", launch, gpu, 1, launch_command)
        return
    Path("a.yaml").write_text(written("k8s", launch, gpu, 1, launch_command))
    (judged,) = check("a.yaml", locked=True).deployments
    assert judged.gpu == profile


def test_images_are_read_as_they_are_written() -> None:
    for engine, vendor in itertools.product(VERSIONS, ("nvidia", "amd")):
        image = own_image(engine, VERSIONS[engine], vendor)
        if image is None:
            assert vendor == "amd"
            continue
        version = version_of_image(Quote(image, Spot(1)))
        assert version is not None
        assert version.text.removesuffix(".0") == VERSIONS[engine].removesuffix(".0")


def test_images_have_the_tags_that_are_published() -> None:
    assert own_image("vllm", "0.33.0", "nvidia") == "vllm/vllm-openai:v0.33.0"
    assert own_image("sglang", "0.5.23", "nvidia") == "lmsysorg/sglang:v0.5.23"
    assert own_image("trtllm", "1.3", "nvidia") == "nvcr.io/nvidia/tensorrt-llm/release:1.3.0"
    assert own_image("llamacpp", "b11312", "nvidia") == "ghcr.io/ggml-org/llama.cpp:server-cuda-b11312"


def test_cards_of_amd() -> None:
    gpu = find_hardware("mi300x")[0]
    launch = launch_of(CASES["vllm on eight"])
    (deployment, _) = yaml.safe_load_all(written("k8s", launch, gpu, 1, launch_command))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"amd.com/gpu": "8"}
    assert container["image"].startswith("vllm/vllm-openai-rocm:")
    text = written("compose", launch, gpu, 1, launch_command)
    (deployed,) = read_file("compose.yaml", text).deployments
    assert deployed.gang.gpus_per_engine == 8
    assert deployed.device_ids == tuple(map(str, range(8)))


def test_a_slice_of_a_card() -> None:
    gpu = find_hardware("nvidia-h200-sxm-mig-3g-71gb")[0]
    launch = launch_of(CASES["vllm on one card"])
    (deployment, _) = yaml.safe_load_all(written("k8s", launch, gpu, 1, launch_command))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/mig-3g.71gb": "1"}
    with pytest.raises(InputError, match="slice"):
        written("compose", launch, gpu, 1, launch_command)


# What no file says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "launch", "replicas", "told"),
    [
        ("compose", launch_of(CASES["vllm on two nodes"]), 1, "one machine"),
        ("compose", launch_of(CASES["vllm on eight"]), 2, "one machine"),
        ("vllm-yaml", launch_of(CASES["sglang on eight"]), 1, "a file of vLLM"),
        ("vllm-yaml", launch_of(CASES["vllm in uneven stages"]), 1, "VLLM_PP_LAYER_PARTITION"),
        ("k8s", launch_of(CASES["vllm on eight"])._replace(engine_version=None), 1, "--engine-version|version"),
        ("k8s", launch_of(CASES["vllm on eight"])._replace(model="/models/x"), 1, "no repository"),
        ("k8s", launch_of(CASES["vllm on eight"])._replace(model="./x.gguf"), 1, "no repository"),
        ("k8s", Launch("trtllm", QWEN, Layout(tp=16, num_nodes=2, num_gpus=16), 1, 1, "1.3"), 1, "MPI"),
        ("k8s", launch_of(CASES["vllm on eight"]), 0, "0 replicas"),
        ("k8s", Launch("transformers", QWEN, Layout(), 1, 1, "5.23.0"), 1, "transformers"),
    ],
)  # fmt: skip
def test_what_a_kind_cannot_say(kind: Kind, launch: Launch, replicas: int, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        written(kind, launch, H200, replicas, launch_command)
    assert caught.value.hint


HOSTILE = (
    "org/na'me", 'org/na"me', "org/a\nb", "org/$(id)", "org/$(LWS_LEADER_ADDRESS)", "org/${HF_TOKEN}", "org/$$x", "org/{x}",
    "org/{{ x }}", "org/a: b", "org/a:b", "org/a #b", "org/- a", "org/%d", "org/&a", "org/*a", "org/!!x", "org/|", "org/`id`",
    "org/; rm -rf", "org/\\", "org/ä", "org/no", "org/1.0", "org/0x1f", "org/~", "org/@b", "hf_" + "a1B2" * 8 + "/x",
    "org/moeplan: gpu=x", "org/\u2028", "org/" + "a" * 300, "org/[x]", "org/?", "org/,", "org/\x7f", "$(id)/x",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", HOSTILE)
def test_odd_names_of_models(kind: Kind, model: str) -> None:
    read_back(kind, model)


SAYABLE = (
    "org/na'me", 'org/na"me', "org/$(id)", "org/$(LWS_LEADER_ADDRESS)", "org/${HF_TOKEN}", "org/$$x", "org/{x}", "org/a:b",
    "org/&a", "org/*a", "org/!!x", "org/`id`", "org/no", "org/1.0", "org/~",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", SAYABLE)
def test_odd_names_that_are_one_word_are_written(kind: Kind, model: str) -> None:
    """Such a name stands in the file as its program hands it on: the kubelet and compose make one `$` of two."""
    launch = launch_of(CASES["vllm on one card"])._replace(model=model)
    read_back(kind, model)
    whole = next(iter(yaml.safe_load_all(written(kind, launch, H200, 1, launch_command))))
    if kind == "vllm-yaml":
        assert whole["model"] == model
    elif kind == "k8s":
        assert whole["spec"]["template"]["spec"]["containers"][0]["args"][0] == model.replace("$", "$$")
    else:
        (service,) = whole["services"].values()
        assert service["command"][0] == model.replace("$", "$$")


@pytest.mark.parametrize("kind", KINDS)
@given(st.text(min_size=1, max_size=12), st.text(alphabet="ab$(){}[]\"'`\\:#&*!|>%@, \n-", min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_of_a_model(kind: Kind, owner: str, name: str) -> None:
    read_back(kind, f"{owner}/{name}")


def read_back(kind: Kind, model: str) -> None:
    """Every word of the command comes out of the file as it went in, or nothing is written."""
    launch = launch_of(CASES["vllm on one card"])._replace(model=model, revision=None)
    try:
        text = written(kind, launch, H200, 1, launch_command)
    except InputError:
        return
    found = read_file(FILE_NAMES[kind], text)
    assert not found.remarks
    (deployed,) = found.deployments
    words = [word.text for word in deployed.command]
    assert all(word.known for word in deployed.command)
    place = 1 if kind == "vllm-yaml" else 2
    assert words[place] == model
    assert deployed.engine_version is not None or kind == "vllm-yaml"


@pytest.mark.parametrize("name", ["$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)", "$$(LWS_LEADER_ADDRESS)"])
def test_a_name_that_a_group_of_pods_would_expand_is_refused(name: str) -> None:
    launch = launch_of(CASES["vllm on two nodes"])._replace(model=f"org/{name}")
    with pytest.raises(InputError, match="other words"):
        written("k8s", launch, H200, 1, launch_command)


def test_plain_names_are_never_refused() -> None:
    for kind, model in itertools.product(KINDS, (QWEN, DEEPSEEK, "org/a.b_c-D", "1org/2x", "org/v1.0")):
        launch = launch_of(CASES["vllm on one card"])._replace(model=model)
        assert written(kind, launch, H200, 1, launch_command)
