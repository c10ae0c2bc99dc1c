"""Scripts that start engines: what runs, under which name, on which cards, and beside what."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Spot
from moeplan.core.secret_words import HIDDEN
from moeplan.sources.deployments.kinds.shell_script import read_text, recognises_text
from moeplan.sources.deployments.stream import Found, Stream
from tests.sources.deployments.reading import line, lines_of, named, only


def read(text: str, name: str = "scripts/serve.sh") -> Found:
    return read_text(name, text, Stream(name, ()))


def test_one_engine() -> None:
    text = """\
#!/bin/bash
TP=${TP:-4}
export CUDA_VISIBLE_DEVICES=4,5,6,7
pip install vllm
exec vllm serve org/M \\
  --tensor-parallel-size $TP \\
  --max-model-len $((32 * 1024))
curl localhost:8000/health
"""
    deployed = only(read(text))
    assert (deployed.kind, deployed.name, deployed.engine) == ("shell", "serve", "vllm")
    assert line(deployed.command).endswith("vllm serve org/M --tensor-parallel-size 4 --max-model-len 32768")
    assert lines_of(deployed.command, "org/M", "4", "32768") == [5, 6, 7]
    assert deployed.spot.line == 5
    assert deployed.device_ids == ("4", "5", "6", "7")
    assert deployed.gang.gpus_per_engine == 4
    assert deployed.host == ""


def test_several_engines_are_told_apart() -> None:
    text = """\
CUDA_VISIBLE_DEVICES=0 vllm serve org/A --served-model-name small > a.log 2>&1 &
CUDA_VISIBLE_DEVICES=1 llama-server -m b.gguf -a other &
CUDA_VISIBLE_DEVICES=2,3 python -m sglang.launch_server --model-path org/C --tp 2
trtllm-serve org/D
trtllm-serve org/E
"""
    found = named(read(text))
    assert {name: each.engine for name, each in found.items()} == {
        "small": "vllm", "other": "llamacpp", "serve-1": "sglang", "serve-2": "trtllm", "serve-3": "trtllm",
    }  # fmt: skip
    # The first two go on beside the third; the script waits for that one and for the next.
    assert [each.host for each in found.values()] == ["serve", "serve", "serve", "", ""]
    assert [each.device_ids for each in found.values()] == [("0",), ("1",), ("2", "3"), (), ()]


@pytest.mark.parametrize("ending", ["&", "> log 2>&1 &", "&> log & # later", "'a & b' &"])
def test_what_goes_on_beside_the_script(ending: str) -> None:
    text = f"vllm serve org/A {ending}\nvllm serve org/B\n"
    assert [each.host for each in read(text).deployments] == ["serve", "serve"]


@pytest.mark.parametrize("ending", ["", "&& echo done", "2>&1 | tee log", "&> log", "'a & b'", "# &"])
def test_what_the_script_waits_for(ending: str) -> None:
    text = f"vllm serve org/A {ending}\nvllm serve org/B\n"
    assert [each.host for each in read(text).deployments] == ["", ""]


def test_a_container() -> None:
    text = """\
docker run -d --gpus '"device=2,3"' -e HF_TOKEN=$HF_TOKEN -e VLLM_USE_V1=1 -p 8000:8000 --ipc=host \\
  -v ~/.cache:/root/.cache vllm/vllm-openai:v0.23.0 \\
  --model org/M --tensor-parallel-size 2
docker run vllm/vllm-openai:v0.23.0 org/N
"""
    first, second = read(text).deployments
    assert line(first.command).endswith("--model org/M --tensor-parallel-size 2")
    assert lines_of(first.command, "org/M") == [3]
    assert first.engine_version is not None
    assert first.engine_version.text.removeprefix("v") == "0.23.0"
    assert first.device_ids == ("2", "3")
    assert first.gang.gpus_per_engine == 2
    assert first.variables["VLLM_USE_V1"].text == "1"
    assert (first.host, second.host) == ("serve", "serve")


def test_tokens_are_told_and_never_kept() -> None:
    text = "export HF_TOKEN=hf_s3cretValue1234\nvllm serve org/M --api-key sk-s3cretValue12\n"
    found = read(text)
    assert {(secret.name.lstrip("-"), secret.spot.line) for secret in found.secrets} == {
        ("HF_TOKEN", 1),
        ("api-key", 2),
    }
    assert HIDDEN in line(only(found).command)
    assert "s3cret" not in repr(found)


def test_what_is_not_known_stays_open() -> None:
    (word,) = [word for word in only(read('vllm serve org/M --tensor-parallel-size "$2"\n')).command if not word.known]
    assert word.text == "$2"


def test_a_path_of_the_hubs_cache_names_the_model() -> None:
    text = "vllm serve /c/models--org--M/snapshots/0123456789abcdef0123456789abcdef01234567\n"
    deployed = only(read(text))
    assert deployed.model is not None
    assert deployed.model.text == "org/M"


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        ("a.sh", "vllm serve m", True),
        ("A.SH", "docker run vllm/vllm-openai --model m", True),
        ("run", "#!/usr/bin/env bash\npython -m sglang.launch_server", True),
        ("run", "vllm serve m", False),
        ("a.sh", "pip install vllm", False),
        ("a.py", "#!/usr/bin/python\n'vllm serve m'", False),
    ],
)
def test_which_files_are_one(name: str, text: str, is_one: bool) -> None:
    assert recognises_text(name, text) is is_one


def test_a_script_that_only_names_an_engine_starts_none() -> None:
    assert read("echo 'run vllm serve m'\n# vllm serve n\n") == Found()


def test_places() -> None:
    assert only(read("\n  vllm serve org/M\n")).spot == Spot(2, 3)


def test_an_engine_file_that_the_script_writes() -> None:
    text = """\
cat >./options.yml <<EOF
enable_attention_dp: true
kv_cache_config:
    free_gpu_memory_fraction: 0.8
EOF
trtllm-serve org/M --tp_size 8 --extra_llm_api_options options.yml
"""
    deployed = only(read(text))
    assert line(deployed.command) == (
        "trtllm-serve org/M --tp_size 8 --enable_attention_dp --kv_cache_config.free_gpu_memory_fraction 0.8"
    )
    assert lines_of(deployed.command, "--enable_attention_dp", "0.8") == [2, 4]


def test_what_slurm_sets() -> None:
    text = """\
#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gres=gpu:h100:4   # of each
#SBATCH -n 16
srun vllm serve org/M -tp $SLURM_GPUS_ON_NODE -pp $SLURM_JOB_NUM_NODES --max-num-seqs $SLURM_NTASKS --seed $SLURM_JOB_ID
"""
    deployed = only(read(text))
    assert "-tp 4 -pp 2 --max-num-seqs 16" in line(deployed.command)
    assert [word.unknown for word in deployed.command if not word.known] == [("$SLURM_JOB_ID",)]
    assert "-tp 1 " in line(only(read(text.replace("gpu:h100:4", "gpu"))).command)


def test_what_only_hands_on_its_arguments_deploys_nothing() -> None:
    found = read('#!/bin/bash\nulimit -n 65536\nexec vllm serve "$@"\n', "entrypoint.sh")
    assert (found.deployments, found.passed_over) == ((), ("entrypoint",))
    assert read('exec vllm serve "$@" --max-model-len 8192\n').deployments
    assert read("LLAMA_ARG_HF_REPO=org/M llama-server\n").deployments
