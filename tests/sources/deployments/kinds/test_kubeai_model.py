"""KubeAI's Model: the card and its number are said by the name of a profile."""

from __future__ import annotations

from tests.sources.deployments.reading import line, model_of, only, read, recognised

MODEL = """\
apiVersion: kubeai.org/v1
kind: Model
metadata: {name: big}
spec:
  features: [TextGeneration]
  url: hf://org/Model-FP8
  engine: VLLM
  args: [--max-model-len=65536, --tensor-parallel-size=2]
  env: {VLLM_USE_V1: "1", HF_TOKEN: hf_abcdefghijklmnop}
  minReplicas: 1
  maxReplicas: 3
  resourceProfile: nvidia-gpu-h100:2
"""


def test_a_model() -> None:
    found = read("kubeai_model", MODEL)
    engine = only(found)
    assert (engine.kind, engine.name, engine.engine, model_of(engine)) == (
        "kubeai.model",
        "big",
        "vllm",
        "org/Model-FP8",
    )
    assert line(engine.command) == "--max-model-len=65536 --tensor-parallel-size=2"
    assert engine.gpu is not None
    assert (engine.gpu.text, engine.gpu.spot.line, engine.gang.gpus_per_engine) == ("h100", 12, 2)
    assert engine.gang.max_replicas is not None
    assert engine.gang.max_replicas.text == "3"
    assert [secret.name for secret in found.secrets] == ["HF_TOKEN"]
    assert "abcdefghijklmnop" not in repr(found)


def test_profiles_and_engines() -> None:
    one = only(read("kubeai_model", MODEL.replace("nvidia-gpu-h100:2", "amd-gpu-mi300x")))
    assert one.gpu is not None
    assert (one.gpu.text, one.gang.gpus_per_engine) == ("mi300x", 1)
    own = only(read("kubeai_model", MODEL.replace("nvidia-gpu-h100:2", "ours:4")))
    assert (own.gpu, own.gang.gpus_per_engine) == (None, 4)
    assert only(read("kubeai_model", MODEL.replace("VLLM\n", "OLlama\n"))).engine == "llamacpp"
    for other in (MODEL.replace("VLLM\n", "FasterWhisper\n"), MODEL.replace("nvidia-gpu-h100", "cpu")):
        assert read("kubeai_model", other).passed_over == ("big",)
    claim = only(read("kubeai_model", MODEL.replace("hf://org/Model-FP8", "pvc://claim/x")))
    assert line(claim.command).startswith("--model pvc://claim/x")
    assert not recognised("kubeai_model", MODEL.replace("kubeai.org", "other.org"))
