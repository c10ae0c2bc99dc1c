"""Our reading of a config beside the model that transformers builds from it: counts, tensor names, tensor sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moeplan.core.model import GroupedAttention, ModelSpec, MoeFfn
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from tests import oracle

SHARES_A_ROLE = {"indexer": "attention"}
"""Our roles that the oracle does not tell apart from another."""


def assert_counts_agree(config: dict[str, Any], auto_class: str = "AutoModelForCausalLM") -> ModelSpec:
    """Total and every role equal what transformers builds; returns our reading for further questions."""
    spec = read_config(config)
    counts = parameters(spec)
    ours: dict[str, int] = {}
    for role, elements in counts.by_role.items():
        told = SHARES_A_ROLE.get(role, role)
        ours[told] = ours.get(told, 0) + elements
    built = oracle.by_role(oracle.build(config, auto_class))
    unlike = _differences(ours, built)
    assert not unlike, unlike
    assert counts.total == sum(built.values())
    return spec


def assert_checkpoint_agrees(config: dict[str, Any], folder: Path, auto_class: str = "AutoModelForCausalLM") -> None:
    """Names and sizes equal those of the checkpoint that transformers writes, in the published naming."""
    unlike = _differences(our_tensors(read_config(config)), oracle_tensors(config, folder, auto_class))
    assert not unlike, unlike


def _differences(ours: dict[str, int], theirs: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Name to (ours, theirs) where they differ; a name that one side lacks counts 0."""
    names = sorted(ours.keys() | theirs.keys())
    return {
        name: (ours.get(name, 0), theirs.get(name, 0)) for name in names if ours.get(name, 0) != theirs.get(name, 0)
    }


def grouped(spec: ModelSpec) -> list[GroupedAttention]:
    """The first mixer of each layer of a model that has only grouped attention."""
    mixers = [layer.mixers[0] for layer in spec.layers]
    told = [mixer for mixer in mixers if isinstance(mixer, GroupedAttention)]
    assert len(told) == len(mixers)
    return told


def moe(spec: ModelSpec) -> list[MoeFfn]:
    """The first feed-forward of each layer of a model that has only sparse ones."""
    ffns = [layer.ffns[0] for layer in spec.layers]
    told = [ffn for ffn in ffns if isinstance(ffn, MoeFfn)]
    assert len(told) == len(ffns)
    return told


def our_tensors(spec: ModelSpec) -> dict[str, int]:
    """Tensor name to elements, MTP left out; parts of one stored tensor share its name and are summed."""
    sizes: dict[str, int] = {}
    for entry in inventory(spec):
        weight = entry.weight
        if entry.part in ("mtp", "mtp_duplicate"):
            continue
        layers: tuple[int, ...] = entry.layers or (0,)
        copies, per_name = range(1), weight.num_elements
        if "{expert}" in weight.name or (entry.part == "tower" and "{layer}" in weight.name):
            copies, per_name = range(weight.count), weight.num_elements // weight.count
        for layer in layers:
            for copy in copies:
                name = weight.name.replace("{layer}", str(copy if entry.part == "tower" else layer))
                name = name.replace("{expert}", str(copy))
                sizes[name] = sizes.get(name, 0) + per_name
    return sizes


def oracle_tensors(config: dict[str, Any], folder: Path, auto_class: str) -> dict[str, int]:
    """Tensor name to elements of the checkpoint that transformers saves for `config`."""
    import torch
    import transformers
    from safetensors import safe_open

    values = {name: value for name, value in config.items() if name != "model_type"}
    loaded = transformers.AutoConfig.for_model(config["model_type"], **values)
    model = getattr(transformers, auto_class).from_config(loaded, dtype=torch.float32)
    model.save_pretrained(folder)
    sizes: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                elements = 1
                for size in tensors.get_slice(name).get_shape():
                    elements *= size
                sizes[name] = elements
    return sizes
