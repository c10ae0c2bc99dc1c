"""Who says what: a comment before the file, the file before the command line, the command line before the policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moeplan.check import check
from moeplan.check.result import Check
from moeplan.core.errors import InputError
from tests.check.repositories import deployment, findings, setting, write
from tests.check.rule_examples import COMMIT, pod
from tests.golden.configs import MIXTRAL

LENGTH = ("--max-model-len", "4096")
PATH_MODEL = "/models/of-ours"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judged(text: str, policy: str = "", **options: object) -> Check:
    write(Path(), {"deploy.yaml": text, **({"moeplan.yaml": policy} if policy else {})})
    return check("deploy.yaml", offline=True, **options)  # type: ignore[arg-type]


# The four places --------------------------------------------------------------------------------------------------

COMMENT, FILE, OPTION, POLICY = "h200", "NVIDIA-H100-80GB-HBM3", "b200", "h20"
PROFILES = {COMMENT: "nvidia-h200-sxm", FILE: "nvidia-h100-sxm", OPTION: "nvidia-b200-sxm", POLICY: "nvidia-h20"}


@pytest.mark.parametrize("said", [(COMMENT, FILE, OPTION, POLICY), (FILE, OPTION, POLICY), (OPTION, POLICY), (POLICY,)])
def test_the_gpu(said: tuple[str, ...]) -> None:
    text = pod(*LENGTH, card=FILE if FILE in said else None)
    above = f"# moeplan: gpu={COMMENT}\n" if COMMENT in said else ""
    policy = f"defaults: {{gpu: {POLICY}}}\n"
    found = deployment(judged(above + text, policy, gpu=OPTION if OPTION in said else None))
    assert found.gpu == PROFILES[said[0]]
    where = {COMMENT: "deploy.yaml:1", FILE: "deploy.yaml:", OPTION: "--gpu", POLICY: "policy: defaults"}[said[0]]
    assert setting(found, "gpu")[1].startswith(where)


@pytest.mark.parametrize(
    ("comment", "tag", "option", "expected"),
    [("0.20.0", "v0.21.0", "0.22.0", "0.20.0"), (None, "v0.21.0", "0.22.0", "0.21.0"), (None, "latest", "0.22.0", "0.22.0"),
     (None, "latest", None, "0.19.0")],
)  # fmt: skip
def test_the_version(comment: str | None, tag: str, option: str | None, expected: str) -> None:
    above = f"# moeplan: engine_version={comment}\n" if comment else ""
    text = above + pod(*LENGTH, image=f"vllm/vllm-openai:{tag}")
    found = judged(text, 'defaults: {engine_version: "0.19.0"}\n', engine_version=option)
    assert deployment(found).engine_version == expected


@pytest.mark.parametrize(
    ("comment", "model", "expected"),
    [
        ("Qwen/Qwen3-30B-A3B", "mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-30B-A3B"),
        (None, "mistralai/Mixtral-8x7B-v0.1", "mistralai/Mixtral-8x7B-v0.1"),
        (None, PATH_MODEL, "openai/gpt-oss-20b"),
        (None, "/another/path", "openai/gpt-oss-120b"),
    ],
)
def test_the_model(comment: str | None, model: str, expected: str) -> None:
    above = f"# moeplan: model={comment}\n" if comment else ""
    policy = f"defaults: {{model: openai/gpt-oss-120b}}\nmodels: {{{PATH_MODEL}: openai/gpt-oss-20b}}\n"
    assert deployment(judged(above + pod(*LENGTH, model=model), policy)).model == expected


def test_a_variable_of_the_command_line_comes_before_one_of_the_policy() -> None:
    text = "vllm serve mistralai/Mixtral-8x7B-v0.1 -tp $TP --max-model-len 4096\n"
    write(Path(), {"serve.sh": text, "moeplan.yaml": 'variables: {TP: "4"}\n'})
    assert check("serve.sh", offline=True, gpu="h100").deployments[0].tp == 4
    assert check("serve.sh", offline=True, gpu="h100", variables={"TP": "8"}).deployments[0].tp == 8
    (Path() / "moeplan.yaml").unlink()
    (open_one,) = findings(check("serve.sh", offline=True, gpu="h100"), "READ006")
    assert (open_one.level, open_one.line) == ("unknown", 1)
    assert "--set TP=" in open_one.hint


def test_an_annotation_states_what_a_comment_states() -> None:
    text = pod(*LENGTH).replace("name: server", "name: server\n  annotations: {moeplan/gpu: h200, moeplan/context: 8k}")
    found = judged(text)
    assert deployment(found).gpu == "nvidia-h200-sxm"
    # The load is longer than what is served.
    assert [each.level for each in findings(found, "LIM004")] == ["error"]


def test_a_load_in_a_comment_is_one_that_must_fit() -> None:
    text = pod("--tensor-parallel-size", "2", "--max-model-len", "32768")
    assert findings(judged(text), "FIT006") == []
    # 1,000 sequences of 32,768 tokens at 128 KiB each, as 32 layers of 8 heads of 128 take, are 4 TiB.
    (found,) = findings(judged(f"# moeplan: context=32k concurrency=1000\n{text}"), "FIT006")
    assert found.gap_bytes is not None
    assert found.gap_bytes > 1 << 40


def test_an_engine_of_a_comment_does_not_have_the_images_version() -> None:
    text = "# moeplan: engine=sglang\n" + pod("--context-length", "4096", image="ours/serving:v0.24.0")
    found = judged(text, engine_version="0.5.2")
    assert deployment(found).engine == "sglang"
    assert deployment(found).engine_version == "0.5.2"


def test_a_number_of_gpus_on_the_command_line_is_for_files_that_have_none() -> None:
    write(Path(), {"serve.sh": "vllm serve mistralai/Mixtral-8x7B-v0.1 -tp 2 --max-model-len 4096\n"})
    idle = check("serve.sh", offline=True, gpu="4xh100").deployments[0].notes
    assert [(note.code, "2 of 4 GPUs" in note.message) for note in idle] == [("gpus-idle", True)]
    found = judged(pod("--tensor-parallel-size", "2", *LENGTH, card=None), gpu="4xh100")
    assert deployment(found).gpus_per_engine == 2
    assert findings(found, "ENG009") == []


# What cannot be meant ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("engine=vlm", "engine"),
        ("engine=transformers", "engine"),
        ("engine_version=newest", "engine_version"),
        ("context=long", "context"),
        ("concurrency=0", "concurrency"),
        ("gnu=h100", "gnu"),
        ("ignore[HYG999] why", "HYG999"),
        ("ignore[NOPE]", "NOPE"),
        ("ignore", "ignore"),
    ],
)
def test_a_comment_that_cannot_be_meant_is_an_error_on_its_line(said: str, told: str) -> None:
    found = judged(f"# ours\n# moeplan: {said}\n{pod(*LENGTH)}")
    (broken,) = findings(found, "READ001")
    assert (broken.level, broken.line) == ("error", 2)
    assert told in broken.message
    assert broken.hint


@pytest.mark.parametrize(
    "annotation", ["moeplan/gnu: h100", 'moeplan/ignore: "HYG999 why"', 'moeplan/ignore: "!"', "moeplan/engine: vlm"]
)
def test_an_annotation_that_cannot_be_meant_is_one_too(annotation: str) -> None:
    found = judged(pod(*LENGTH).replace("name: server", f"name: server\n  annotations: {{{annotation}}}"))
    (broken,) = findings(found, "READ001")
    assert broken.line == 5
    assert annotation.partition(":")[0] in broken.message


@pytest.mark.parametrize("gpu", ["h999", "gpu of ours"])
def test_a_gpu_that_a_file_names_and_nobody_knows_is_not_verified(gpu: str) -> None:
    found = judged(pod(*LENGTH, card=f'"{gpu}"'))
    assert deployment(found).verdict == "cannot-verify"
    (unknown,) = findings(found, "READ005")
    assert gpu in unknown.message
    assert deployment(judged(pod(*LENGTH, card=f'"{gpu}"'), f'gpus: {{"{gpu}": h200}}\n')).gpu == "nvidia-h200-sxm"


@pytest.mark.parametrize(
    "options",
    [{"gpu": "h999"}, {"engine": "vlm"}, {"engine": "transformers"}, {"engine_version": "newest"}, {"select": ["FIT9"]},
     {"ignore": ["NOPE"]}, {"fail_on": "fatal"}, {"lock": "other.lock"}],
)  # fmt: skip
def test_an_option_that_names_nothing_is_wrong_usage(options: dict[str, object]) -> None:
    with pytest.raises(InputError) as raised:
        judged(pod(*LENGTH), "", **options)
    (name,) = options
    assert raised.value.message.startswith(f"--{name.replace('_', '-')} ")
    assert raised.value.hint


# Paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["models/mine", "mine", "/models/mine", "./models/mine"])
def test_a_path_of_a_container_is_not_looked_for_here(path: str, folder: Path) -> None:
    # A folder of that name lies in the working folder, and holds a model.
    write(folder, {"models/mine/config.json": json.dumps(MIXTRAL), "mine/config.json": json.dumps(MIXTRAL)})
    found = judged(pod(*LENGTH, model=path))
    assert deployment(found).verdict == "cannot-verify"
    assert {each.code for each in found.findings if each.level == "unknown"} <= {"READ004", "READ007"}
    commented = judged(f"# moeplan: model={path}\n" + pod(*LENGTH))
    assert deployment(commented).verdict == "cannot-verify"


@pytest.mark.parametrize("inside", [".", "deploy", "deploy/sub"])
def test_a_path_of_the_policy_is_relative_to_it(inside: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        folder,
        {
            "moeplan.yaml": f"models: {{{PATH_MODEL}: configs/mine}}\n",
            "configs/mine/config.json": json.dumps(MIXTRAL),
            "deploy/sub/deploy.yaml": pod(
                "--tensor-parallel-size", "2", *LENGTH, "--revision", COMMIT, model=PATH_MODEL
            ),
        },
    )
    monkeypatch.chdir(folder / inside)
    found = check(".", offline=True)
    assert deployment(found).verdict == "pass"
    assert deployment(found).model == "configs/mine"
    assert findings(found, "HYG001") == []
    assert str(folder) not in str(found)
