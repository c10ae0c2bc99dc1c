"""Checkpoints from outside, without a byte of weights: what transformers would save, and what publishers did save.

Nothing here asks our inventory for a name or a shape.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.sources.catalogue import find_entry
from moeplan.sources.families import FAMILIES
from moeplan.sources.safetensors_headers import DTYPE_BITS

PUBLISHED = Path(__file__).parent / "data" / "published_tensors"


def tensor(name: str, dtype: str, shape: tuple[int, ...], file: str = "model.safetensors") -> StoredTensor:
    """A tensor of that dtype and shape."""
    return StoredTensor(name, dtype, shape, math.prod(shape) * DTYPE_BITS[dtype] // 8, file)


def checkpoint(tensors: Iterable[StoredTensor]) -> Checkpoint:
    """All of them in one file."""
    return Checkpoint(tuple(tensors), ("model.safetensors",))


# What transformers saves -----------------------------------------------------------------------------------


def saved_by_transformers(config: Mapping[str, Any], class_name: str = "AutoModelForCausalLM") -> Checkpoint:
    """Names, shapes and dtypes that `save_pretrained` writes for `config` in float32, built on the meta device.

    As it does: the state dict, tied tensors once, names and shapes turned back into the published ones
    (transformers 5.23.0 `core_model_loading.revert_weight_conversion`).
    """
    import torch
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    known = {"model_type", "quantization_config", "auto_map"}
    values = {name: value for name, value in config.items() if name not in known}
    loaded = transformers.AutoConfig.for_model(config["model_type"], **values)
    with torch.device("meta"):
        model = getattr(transformers, class_name).from_config(loaded, dtype=torch.float32)
    tied = set(model.all_tied_weights_keys)
    state = {name: value for name, value in model.state_dict().items() if name not in tied}
    dtypes = {torch.float32: "F32", torch.int64: "I64"}
    saved = revert_weight_conversion(model, state)
    return checkpoint(tensor(name, dtypes[value.dtype], tuple(value.shape)) for name, value in saved.items())


def transformers_cases() -> dict[str, dict[str, Any]]:
    """The configs of the families' own tests that transformers builds, and some that those tests put together."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from tests.families import test_granite, test_olmo, test_qwen, test_step

    more: dict[str, dict[str, Any]] = {
        **{
            model_type: test_granite.SMALL | {"model_type": model_type, "shared_intermediate_size": 28}
            for model_type in ("granitemoe", "granitemoeshared", "granitemoe_swa")
        },
        "olmoe": test_olmo.SMALL | {"model_type": "olmoe"},
        "flex_olmo": test_olmo.SMALL | {"model_type": "flex_olmo"},
        "qwen3_omni_moe_thinker": {"model_type": "qwen3_omni_moe_thinker", **test_qwen.OMNI["thinker_config"]},
        "step3p7": {"model_type": "step3p7", "text_config": test_step.TEXT, "vision_config": test_step.VISION},
    }
    cases = dict(_configs_of_tests()) | more
    return {label: config for label, config in cases.items() if config["model_type"] in CONFIG_MAPPING_NAMES}


def _configs_of_tests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Whole configs in the modules of `tests/families`: those that name a family."""
    for path in sorted((Path(__file__).parent / "families").glob("test_*.py")):
        module = import_module(f"tests.families.{path.stem}")
        for name, value in vars(module).items():
            if not isinstance(value, dict):
                continue
            named = {name: value} if "model_type" in value else {f"{name}[{key}]": each for key, each in value.items()}
            for label, each in named.items():
                if isinstance(each, dict) and each.get("model_type") in FAMILIES:
                    yield f"{path.stem.removeprefix('test_')}.{label}", each


def auto_class(config: Mapping[str, Any]) -> str:
    """The class of transformers that builds all of it, towers and head included."""
    from transformers.models.auto import modeling_auto

    for name, table in (
        ("AutoModelForTextToWaveform", modeling_auto.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES),
        ("AutoModelForImageTextToText", modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
        ("AutoModelForSeq2SeqLM", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    ):
        if config["model_type"] in table:
            return name
    return "AutoModelForCausalLM"


def stub(config: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of `config` as transformers would save it, less what no checkpoint holds."""
    saved = saved_by_transformers(config, auto_class(config))
    if config["model_type"] != "longcat_flash":
        return saved
    # transformers gives matrices to experts that compute nothing as well; see tests/families/test_longcat.py.
    return checkpoint(each for each in saved.tensors if _expert(each) < config["n_routed_experts"])


def _expert(stored: StoredTensor) -> int:
    _, found, rest = stored.name.partition(".experts.")
    return int(rest.split(".")[0]) if found else 0


# What publishers save --------------------------------------------------------------------------------------


class Published(NamedTuple):
    """One file of `data/published_tensors`: a layout as facts, with its config and the figures published for it."""

    name: str
    config: Mapping[str, Any]
    sidecar: Mapping[str, Any] | None
    checkpoint: Checkpoint
    total_bytes: int | None
    """Of all tensors, as the index of the repository states it."""
    file_bytes: int | None
    """Of all files, headers included."""
    num_tensors: int | None
    differs: tuple[str, int] | None
    """A role whose headers hold so many bytes more than the config promises, for a reason that no config states."""


def published_names() -> list[str]:
    """Names of all layouts."""
    return sorted(path.stem for path in PUBLISHED.glob("*.txt"))


def published(name: str) -> Published:
    """Read one layout.

    Lines are `#` remarks with the source; `key: value` about the repository (`model` names its entry in the catalogue,
    `config` is one of its own, `with` changes it, `differs` is what it does not tell); and one kind of tensor each:
    name, dtype, shape. In names, `{0-7}` stands for numbers and `{q,k}` for words.
    """
    about: dict[str, str] = {}
    tensors: list[StoredTensor] = []
    for line in (PUBLISHED / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        key, colon, value = line.partition(": ")
        if colon and " " not in key:
            about[key] = value
            continue
        pattern, dtype, sizes = line.split()
        shape = () if sizes == "scalar" else tuple(int(size) for size in sizes.split("x"))
        tensors += [tensor(each, dtype, shape) for each in _expanded(pattern)]
    config: dict[str, Any] = json.loads(about.get("config", "{}"))
    sidecar = None
    if "model" in about:
        entry = find_entry(about["model"])
        if entry is None:
            raise LookupError(f"{about['model']} is not in the catalogue")
        config, sidecar = dict(entry.config), entry.sidecar
    config |= json.loads(about.get("with", "{}"))
    total, files, number = (
        int(about[key]) if key in about else None for key in ("total_bytes", "file_bytes", "tensors")
    )
    role, off = about["differs"].split()[:2] if "differs" in about else ("", "0")
    differs = (role, int(off)) if role else None
    return Published(name, config, sidecar, checkpoint(tensors), total, files, number, differs)


def _expanded(pattern: str) -> Iterator[str]:
    pieces = re.split(r"\{([^{}]+)\}", pattern)
    choices = [_choices(text) for text in pieces[1::2]]
    for chosen in product(*choices):
        yield "".join(text + word for text, word in zip(pieces[::2], (*chosen, ""), strict=True))


def _choices(text: str) -> list[str]:
    first, dash, last = text.partition("-")
    return [str(number) for number in range(int(first), int(last) + 1)] if dash else text.split(",")
