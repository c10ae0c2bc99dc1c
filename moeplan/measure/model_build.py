"""A model from its config with random weights: how many of its layers fit, and the library that builds it.

Nothing is downloaded: configs are given, weights are drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch  # noqa: TID253

from moeplan.core.units import GIB
from moeplan.measure.live_tensors import FusedAttention, LiveTensors, tensor_bytes
from moeplan.measure.session import NotMeasuredError

LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
"""Names under which configs tell how many layers there are; the first that is there counts."""

PER_LAYER = (
    "layer_types", "mlp_layer_types", "indexer_types", "layers_block_type", "no_rope_layers", "moe_layer_freq",
    "attn_type_list",
)  # fmt: skip
"""Lists with one entry for each layer, which are cut with the layers."""

NOT_BUILT = ("quantization_config", "auto_map", "architectures", "transformers_version", "torch_dtype", "dtype")
"""Fields that say how a checkpoint stores weights: these weights are drawn, in the dtype of the task."""


class Needs(NamedTuple):
    """What a model needs on the device, from shapes alone."""

    rest_bytes: int
    """Parameters outside of layers."""
    layer_bytes: tuple[int, ...]
    cache_bytes: int
    """Of all layers after the prompt."""
    transient_bytes: int | None
    """What a prefill has alive at its peak beside weights and cache; None where shapes alone do not tell."""

    def of(self, num_layers: int) -> int:
        """Bytes of the first `num_layers` layers, with everything around them."""
        cache = -(-self.cache_bytes * num_layers // max(1, len(self.layer_bytes)))
        return self.weights_bytes(num_layers) + cache + (self.transient_bytes or 0)

    def weights_bytes(self, num_layers: int) -> int:
        """Parameters of the first `num_layers` layers and around them."""
        return self.rest_bytes + sum(self.layer_bytes[:num_layers])


def load_transformers() -> Any:
    """The library, quiet. Raises NotMeasuredError where it is not installed or does not load."""
    try:
        import transformers
    except Exception as error:
        raise NotMeasuredError(
            f"needs transformers, which does not load ({type(error).__name__}): pip install 'moeplan[capture]'"
        ) from error
    transformers.logging.set_verbosity_error()
    return transformers


def num_layers_of(config: Mapping[str, Any]) -> int:
    """Decoder layers that a config states. Raises NotMeasuredError where it states none."""
    for name in LAYER_COUNTS:
        if isinstance(config.get(name), int):
            return int(config[name])
    if isinstance(config.get("text_config"), Mapping):
        return num_layers_of(config["text_config"])
    raise NotMeasuredError("the config does not say how many layers the model has")


def built_config(config: Mapping[str, Any], num_layers: int) -> dict[str, Any]:
    """The config with its first `num_layers` layers, without what concerns stored weights: what is built and what an
    estimate of the same has to read."""
    whole = num_layers_of(config)
    built: dict[str, Any] = {}
    for name, value in config.items():
        if name == "text_config" and isinstance(value, Mapping):
            built[name] = built_config(value, num_layers)
        elif name in LAYER_COUNTS:
            built[name] = min(num_layers, value)
        elif name in PER_LAYER and isinstance(value, list) and len(value) == whole:
            built[name] = value[:num_layers]
        elif name not in NOT_BUILT:
            built[name] = value
    return built


def build(config: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> Any:
    """The causal model of a config of `built_config`, with the library's own random start values, ready to run.

    Raises what the library raises for a model type that it does not know or a config that it does not accept.
    """
    transformers = load_transformers()
    fields = {name: value for name, value in config.items() if name != "model_type"}
    read = transformers.AutoConfig.for_model(config["model_type"], **fields)
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(read, dtype=dtype).eval()


def cache_tensors(cache: Any) -> list[torch.Tensor]:
    """Keys, values and states that a cache of the library holds, in its layers or beside them; counters are left out."""
    found: list[torch.Tensor] = []
    waiting: list[Any] = [vars(cache)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            found += [value] if value.is_floating_point() else []
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += [vars(each) if type(each).__name__.endswith("Layer") else each for each in value]
    return found


def prefill(model: Any, ids: torch.Tensor) -> Any:
    """One forward pass over whole prompts, with a cache, and logits of the last token alone, as `generate` asks."""
    return model(input_ids=ids, use_cache=True, logits_to_keep=1)


class Shapes:
    """A whole model on the meta device, which has shapes and no data: what it needs is asked for one length after another."""

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype) -> None:
        self._meta = torch.device("meta")
        self._model = build(built_config(config, num_layers_of(config)), dtype, self._meta)
        layers = [0] * num_layers_of(config)
        self._rest_bytes = 0
        for name, tensor in self._model.named_parameters():
            place = re.search(r"\.(\d+)\.", name)
            if place is not None and int(place[1]) < len(layers):
                layers[int(place[1])] += tensor_bytes([tensor])
            else:
                self._rest_bytes += tensor_bytes([tensor])
        self._layer_bytes = tuple(layers)

    def needs(self, batch: int, tokens: int) -> Needs:
        """What it needs to run `batch` prompts of `tokens`."""
        try:
            with torch.no_grad(), FusedAttention(), LiveTensors("meta") as live:
                result = prefill(self._model, torch.zeros(batch, tokens, dtype=torch.int64, device=self._meta))
                cache = tensor_bytes(cache_tensors(result.past_key_values))
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return Needs(self._rest_bytes, self._layer_bytes, 0, None)  # it asks its data which way to go
        return Needs(self._rest_bytes, self._layer_bytes, cache, max(0, live.peak_bytes - cache))

    def most_positions(self) -> int | None:
        """Tokens that a learned table of positions has rows for; None where positions are computed and have no end."""
        tables = (
            module.num_embeddings - int(getattr(module, "offset", 0))
            for name, module in self._model.named_modules()
            if isinstance(module, torch.nn.Embedding) and re.fullmatch(r"wpe|\w*position\w*", name.rpartition(".")[2])
        )
        return min(tables, default=None)


def needs(config: Mapping[str, Any], dtype: torch.dtype, batch: int, prompt_tokens: int) -> Needs:
    """What the whole model needs for prompts of one length."""
    return Shapes(config, dtype).needs(batch, prompt_tokens)


def room_of(wanted: Needs, free_bytes: int) -> int:
    """Bytes that may be counted on: an eighth is kept where shapes did not tell what a prefill needs."""
    return free_bytes if wanted.transient_bytes is not None else free_bytes - free_bytes // 8


def layers_that_fit(wanted: Needs, num_layers: int, free_bytes: int) -> int:
    """The most layers, up to `num_layers`, for which there is room. Raises NotMeasuredError where not even one layer fits."""
    room = room_of(wanted, free_bytes)
    for count in range(min(num_layers, len(wanted.layer_bytes)), 0, -1):
        if wanted.of(count) <= room:
            return count
    raise NotMeasuredError(
        f"one layer of the model needs {wanted.of(1) / GIB:.2f} GiB with a prefill, {room / GIB:.2f} GiB are free"
    )
