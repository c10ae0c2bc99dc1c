"""docker compose files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.deployments.reading import (
    example,
    line,
    lines_of,
    model_of,
    named,
    only,
    read,
    recognised,
    says,
)

FILE = """\
name: stack
services:
  engine:
    image: vllm/vllm-openai:${TAG:-v0.10.0}
    labels:
      moeplan/gpu: h100-sxm
    environment:
      - VLLM_ATTENTION_BACKEND=FLASHMLA
      - HF_HOME
    command: >
      --model ${MODEL:-org/model}
      --served-model-name "my model"
      --tensor-parallel-size ${TP}
    deploy:
      replicas: 2
      resources:
        reservations:
          devices:
            - {driver: nvidia, count: 2, capabilities: [gpu]}
  web:
    image: nginx
    ports: ["80:80"]
"""


def service(text: str) -> str:
    lines = "\n".join(f"    {each}" for each in text.strip().splitlines())
    return f"services:\n  engine:\n{lines}\n"


def test_arguments_of_the_engines_own_image() -> None:
    found = read("compose", FILE, TP="4", HF_HOME="/cache")
    engine = only(found)
    assert found.passed_over == ("web",)
    assert (engine.kind, engine.name, engine.engine, engine.host) == ("compose", "engine", "vllm", "stack")
    assert line(engine.command).endswith("--model org/model --served-model-name my model --tensor-parallel-size 4")
    assert engine.served_names[0].text == "my model"
    assert engine.image is not None
    assert engine.image.text == "vllm/vllm-openai:v0.10.0"
    assert engine.engine_version is not None
    assert engine.variables["VLLM_ATTENTION_BACKEND"].text == "FLASHMLA"
    assert engine.variables["HF_HOME"].text == "/cache"
    assert engine.annotations["moeplan/gpu"].text == "h100-sxm"
    assert engine.gang.gpus_per_engine == 2
    assert engine.gang.replicas is not None
    assert (engine.gang.replicas.text, engine.gang.replicas.spot.line) == ("2", 15)


def test_a_variable_without_value_is_named() -> None:
    engine = only(read("compose", FILE))
    assert [word.unknown for word in engine.command if word.unknown] == [("${TP}",)]


def test_words_of_a_literal_text_have_lines_and_columns() -> None:
    engine = only(
        read("compose", service('image: vllm/vllm-openai\ncommand: |\n  --model org/model\n  --max-model-len "8 k"'))
    )
    spots = {word.text: (word.spot.line, word.spot.column) for word in engine.command}
    assert spots["org/model"] == (5, 15)
    assert spots["8 k"] == (6, 23)


def test_two_dollars_are_one_for_the_shell_inside() -> None:
    text = """\
image: example/own
environment: {MODEL: org/model, TP: "${OUTER:-2}"}
entrypoint: [/bin/sh, -c]
command:
  - |
    exec vllm serve $$MODEL \\
      --tensor-parallel-size $${TP}
"""
    engine = only(read("compose", service(text)))
    assert line(engine.command) == "vllm serve org/model --tensor-parallel-size 2"
    assert lines_of(engine.command, "org/model", "--tensor-parallel-size") == [8, 9]


def test_a_command_that_brings_its_own_program() -> None:
    text = "image: lmsysorg/sglang:v0.5.3\ncommand: python3 -m sglang.launch_server --model-path org/model --tp 2"
    engine = only(read("compose", service(text)))
    assert (engine.engine, says(engine.command, "--model-path org/model", "--tp 2")) == ("sglang", True)


def test_a_model_on_a_disk_is_known_by_its_served_name() -> None:
    text = "image: vllm/vllm-openai\ncommand: --model /models/{} --served-model-name org/Model"
    assert model_of(only(read("compose", service(text.format("model"))))) == "org/Model"
    other = only(read("compose", service(text.format("model-AWQ"))))
    assert other.model is None
    assert [remark.code for remark in other.remarks] == ["served-name-differs"]


# GPUs ----------------------------------------------------------------------------------------------------------

DEVICES = "deploy: {{resources: {{reservations: {{devices: [{}]}}}}}}"
VLLM = "image: vllm/vllm-openai\ncommand: [--model, org/model]\n"


@pytest.mark.parametrize(
    ("text", "gpus", "ids"),
    [
        # The daemon gives the first cards of the machine.
        (DEVICES.format("{driver: nvidia, count: 2, capabilities: [gpu]}"), 2, ("0", "1")),
        (DEVICES.format('{driver: nvidia, count: "${N:-1}", capabilities: [gpu]}'), 1, ("0",)),
        (DEVICES.format("{driver: nvidia, count: all, capabilities: [gpu]}"), None, ()),
        (DEVICES.format("{driver: nvidia, capabilities: [gpu]}"), None, ()),
        (DEVICES.format('{device_ids: ["2", "3"], capabilities: [gpu]}'), 2, ("2", "3")),
        (DEVICES.format('{device_ids: ["${IDS:-0,1}"], capabilities: [gpu]}'), 2, ("0", "1")),
        (DEVICES.format('{driver: cdi, device_ids: ["nvidia.com/gpu=1"], capabilities: [gpu]}'), 1, ("1",)),
        (DEVICES.format("{driver: x, count: 1, capabilities: [tpm]}"), None, ()),
        ("gpus: all", None, ()),
        ("gpus: [{driver: nvidia, count: 2}]", 2, ("0", "1")),
        ("devices: [nvidia.com/gpu=all]", None, ()),
        ("devices: [nvidia.com/gpu=0, /dev/fuse]", 1, ("0",)),
        ("runtime: nvidia\nenvironment: {NVIDIA_VISIBLE_DEVICES: all}", None, ()),
        ('runtime: nvidia\nenvironment: {NVIDIA_VISIBLE_DEVICES: "1,2"}', 2, ("1", "2")),
        ('runtime: nvidia\nenvironment: {CUDA_VISIBLE_DEVICES: "3"}', 1, ("3",)),
        ("", None, ()),
    ],
)
def test_cards_and_their_number(text: str, gpus: int | None, ids: tuple[str, ...]) -> None:
    engine = only(read("compose", service(VLLM + text)))
    assert (engine.gang.gpus_per_engine, engine.device_ids, engine.gpu) == (gpus, ids, None)


def test_visible_devices_are_places_among_the_containers_own_cards() -> None:
    text = 'environment: {CUDA_VISIBLE_DEVICES: "1"}\n' + DEVICES.format(
        '{device_ids: ["4", "5"], capabilities: [gpu]}'
    )
    engine = only(read("compose", service(VLLM + text)))
    assert (engine.gang.gpus_per_engine, engine.device_ids) == (1, ("5",))


def test_engines_of_a_file_share_its_machine() -> None:
    part = f"{VLLM}{DEVICES.format('{count: 1, capabilities: [gpu]}')}"
    text = service(part) + service(part).partition("\n")[2].replace("engine:", "other:")
    found = read("compose", text, "folder/compose.yaml")
    assert {(each.host, each.device_ids) for each in found.deployments} == {("folder/compose.yaml", ("0",))}
    assert {each.not_at_once for each in found.deployments} == {""}


def test_engines_of_different_profiles_are_alternatives() -> None:
    text = service(f"profiles: [a]\n{VLLM}") + service(f"profiles: [b]\n{VLLM}").partition("\n")[2].replace(
        "engine:", "other:"
    )
    assert {each.not_at_once for each in read("compose", text).deployments} == {"profiles"}
    together = text.replace("profiles: [b]", "profiles: [a]")
    assert {each.not_at_once for each in read("compose", together).deployments} == {""}


def test_two_engines_of_one_service_have_cards_of_their_own() -> None:
    text = """\
image: example/own
gpus: [{device_ids: ["4", "5"]}]
entrypoint: [bash, -c]
command:
  - |
    CUDA_VISIBLE_DEVICES=0 vllm serve org/one --port 1 &
    CUDA_VISIBLE_DEVICES=1 vllm serve org/two --port 2
"""
    found = read("compose", service(text)).deployments
    assert {each.not_at_once for each in found} == {""}
    assert [(each.name, each.device_ids, each.gang.gpus_per_engine) for each in found] == [
        ("engine-1", ("4",), 1),
        ("engine-2", ("5",), 1),
    ]


def test_branches_of_one_script_that_use_one_port_are_alternatives() -> None:
    text = """\
image: example/own
entrypoint: [bash, -c]
command:
  - if [ "$$BIG" ]; then vllm serve org/big; else vllm serve org/small; fi
"""
    found = read("compose", service(text)).deployments
    assert [(each.name, each.not_at_once) for each in found] == [("engine-1", "engine:"), ("engine-2", "engine:")]


# Anchors, merge keys, extends ----------------------------------------------------------------------------------


def test_anchors_merge_keys_and_extends() -> None:
    text = """\
x-base: &base
  image: vllm/vllm-openai:v0.10.0
  environment: {A: one, B: two}
services:
  template:
    <<: *base
    entrypoint: ["true"]
    deploy:
      resources: {reservations: {devices: [{count: 2, capabilities: [gpu]}]}}
  engine:
    extends: {service: template}
    environment: [B=three]
    entrypoint: [vllm, serve]
    command: [org/model]
    deploy: {replicas: 3}
  again:
    extends: engine
    command: [org/other]
"""
    found = named(read("compose", text))
    engine = found["engine"]
    assert line(engine.command) == "vllm serve org/model"
    assert {name: quote.text for name, quote in engine.variables.items()} == {"A": "one", "B": "three"}
    assert engine.gang.gpus_per_engine == 2
    assert engine.gang.replicas is not None
    assert engine.gang.replicas.text == "3"
    assert line(found["again"].command) == "vllm serve org/other"


def test_a_service_of_another_file_is_told() -> None:
    text = service(f"extends: {{file: base.yaml, service: x}}\n{VLLM}")
    engine = only(read("compose", text))
    assert [(remark.code, remark.spot.line) for remark in engine.remarks] == [("extends-elsewhere", 3)]
    assert not only(read("compose", text.replace("base.yaml", "./deploy.yaml"))).remarks


def test_services_that_extend_each_other_end() -> None:
    text = "services:\n  a: {extends: b, image: vllm/vllm-openai, command: [--model, o/m]}\n  b: {extends: a}\n"
    assert set(named(read("compose", text))) == {"a", "b"}


# Environment ---------------------------------------------------------------------------------------------------


def test_an_env_file_beside_is_the_containers_too() -> None:
    text = "image: example/own\nenv_file: [{path: ./.env}]\nentrypoint: [sh, -c]\ncommand: ['vllm serve $$MODEL']"
    assert line(only(read("compose", service(text), MODEL="org/model")).command) == "vllm serve org/model"
    without = service(text.replace("env_file: [{path: ./.env}]\n", ""))
    assert only(read("compose", without, MODEL="org/model")).command[2].unknown == ("$MODEL",)


def test_tokens_are_hidden_and_those_in_plain_text_are_told() -> None:
    token = "hf_" + "b" * 24
    text = f"{VLLM}environment:\n  HF_TOKEN: {token}\n  OTHER_TOKEN: ${{TOKEN}}\n  API_KEY: your-key-here"
    found = read("compose", service(text), TOKEN=token)
    assert [(secret.name, secret.spot.line) for secret in found.secrets] == [("HF_TOKEN", 6)]
    assert token not in repr(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FILE, True),
        ("services: {a: {build: .}}\n", True),
        ("services: [docker]\n", False),
        ("services: {a: 1}\n", False),
        ("apiVersion: v1\nkind: X\nservices: {a: {image: x}}\n", False),
    ],
)
def test_it_is_recognised_by_its_services(text: str, expected: bool) -> None:
    assert recognised("compose", text) is expected


def test_a_service_that_is_switched_off_is_passed_over() -> None:
    found = read("compose", service(f"{VLLM}scale: 0"))
    assert (found.deployments, found.passed_over) == ((), ("engine",))


def test_qwen3_example(shared: Path) -> None:
    text, facts = example(shared, "compose-qwen3-30b-a3b-vllm.yaml")
    found = read("compose", text)
    engine, (expected,) = only(found), facts["deployments"]
    assert list(found.passed_over) == facts["not_a_model_server"]
    assert (engine.name, engine.engine, model_of(engine)) == (expected["name"], expected["engine"], expected["model"])
    assert (engine.gpu, engine.gang.gpus_per_engine) == (None, expected["gpus_per_engine"])
    assert says(engine.command, f"--revision={expected['revision']}", f"--tensor-parallel-size {expected['tp']}")
    # 32K is 32768: the engine's parser reads suffixes.
    assert says(engine.command, "--max-model-len=32K", "--gpu-memory-utilization 0.90")
    assert lines_of(engine.command, "Qwen/Qwen3-30B-A3B", "2", "--max-model-len=32K") == [11, 14, 15]
    assert not found.secrets


def test_an_engine_whose_name_is_not_known() -> None:
    gpus = "deploy: {resources: {reservations: {devices: [{count: 2, capabilities: [gpu]}]}}}"
    text = f"""\
services:
  built: {{build: ., command: --model org/a --tensor-parallel-size 2, {gpus}}}
  own: {{image: "registry/name:1", command: [/start, --max-model-len, "8192"], {gpus}}}
  client: {{image: "registry/client:1", command: [/ask, --max-model-len, "8192"]}}
  web: {{build: ., command: --port 80}}
"""
    found = read("compose", text)
    built, own = found.deployments
    assert (built.name, built.engine, line(built.command)) == ("built", None, "--model org/a --tensor-parallel-size 2")
    assert (own.name, line(own.command), own.gang.gpus_per_engine) == ("own", "--max-model-len 8192", 2)
    assert found.passed_over == ("client", "web")


ENGINE_FILE = """\
services:
  deepseek:
    image: nvcr.io/nvidia/tensorrt-llm/release:1.3.0
    command: [trtllm-serve, org/model, --tp_size, "8", --extra_llm_api_options, /etc/engine/options.yaml]
    configs:
      - {source: options, target: /etc/engine/options.yaml}
configs:
  options:
    content: |
      enable_attention_dp: true
      kv_cache_config: {dtype: $KV}
"""


def test_a_file_of_options_that_the_compose_file_holds() -> None:
    engine = only(read("compose", ENGINE_FILE, KV="fp8"))
    assert line(engine.command) == (
        "trtllm-serve org/model --tp_size 8 --enable_attention_dp --kv_cache_config.dtype fp8"
    )
    assert lines_of(engine.command, "--enable_attention_dp") == [10]
    elsewhere = only(read("compose", ENGINE_FILE.replace("target: /etc", "target: /opt"), KV="fp8"))
    assert says(elsewhere.command, "--extra_llm_api_options /etc/engine/options.yaml")
