"""Serving engines: how each splits a model, stores its cache, reserves, refuses and names its flags.

Each engine is one module, or folder, with the functions of `Engine`. Constants that were not computed stand in
`profiles/engines/<engine>.yaml`, by version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Refusal, Serving, Settings, Value
from moeplan.core.kv_cache import Accounting, CacheRules
from moeplan.core.layout import AskedLayout, Division, Layout
from moeplan.core.ledger import Line
from moeplan.core.model import ModelSpec, Remark, Weight
from moeplan.core.placement import RankView

if TYPE_CHECKING:  # only command lines pay for their tables
    from moeplan.engines.command_line import Flag

ENGINES: dict[str, str] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm": "trtllm",
    "llamacpp": "llamacpp",
    "transformers": "transformers",
}
"""Name to module; the first is the default."""

ALSO_CALLED = {
    "llama.cpp": "llamacpp", "llama-cpp": "llamacpp", "llama-server": "llamacpp", "ollama": "llamacpp",
    "tensorrt-llm": "trtllm", "tensorrt_llm": "trtllm", "trt-llm": "trtllm", "hf": "transformers",
}  # fmt: skip
"""Other names that people write."""


class Engine(Protocol):
    """What every engine module offers. All sizes are bytes of one rank."""

    def resolve_layout(
        self, spec: ModelSpec, asked: AskedLayout, num_devices: int | None, stated: Mapping[str, Value]
    ) -> Layout:
        """The layout that the engine would run: what nobody stated is inferred from the number of devices.

        Raises InputError for degrees that contradict each other; what the engine would refuse is left to `refusals`.
        """

    def settle(self, serving: Serving) -> Settings:
        """The engine's settings as it would run them, each with its origin; the memory share comes first."""

    def loaded_dtype(self, dtype: str, capability: str | None) -> str:
        """The dtype that weights of `dtype` are loaded in when the user asks for none."""

    def loads_drafts(self, stated: Mapping[str, Value]) -> bool:
        """True where these settings load the model's own draft layers (MTP) for speculation."""

    def leaves_out(self, name: str) -> str | None:
        """Why a weight of this name is never loaded, or None."""

    def cache_rules(
        self,
        spec: ModelSpec,
        *,
        asked: str | None,
        scheme: str | None,
        weight_dtype: str,
        capability: str | None,
        stated: Mapping[str, Value] | None = None,
    ) -> CacheRules:
        """How the cache is stored: dtype asked for, else the checkpoint's scheme, else the engine's `auto`; and how
        windows are counted, where `stated` settings say so."""

    def window_accountings(self, serving: Serving, rules: CacheRules) -> dict[Accounting, CacheRules]:
        """The ways in which window layers can be counted."""

    def division(self, serving: Serving, settings: Settings) -> Division:
        """Over how many ranks of a stage each part of the model is divided."""

    def host_share(self, serving: Serving, settings: Settings) -> Callable[[Weight, int | None], float] | None:
        """Which share of a weight (of a layer) stays in host memory; None where all of them are on devices."""

    def weight_lines(self, serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
        """What the engine keeps beside the weights of the checkpoint: copies, padding of kernels, adapter slots."""

    def runtime_lines(self, serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
        """Everything that is neither weights nor cache."""

    def host_lines(self, serving: Serving, settings: Settings) -> tuple[Line, ...]:
        """Host memory beside the weights that stay there: staging, swap, pinned buffers, of all ranks together."""

    def load_peak_bytes(self, serving: Serving, settings: Settings, rank: RankView) -> int | None:
        """Most bytes while weights are loaded, before there is a cache; None where it is not known."""

    def budget_bytes(
        self,
        serving: Serving,
        settings: Settings,
        memory_bytes: int,
        lines: tuple[Line, ...],
        rank: RankView | None = None,
    ) -> int:
        """Bytes that weights, runtime and cache may take together on a device that reports `memory_bytes` as total.

        `lines` are those of weights and runtime: some engines set aside a share of what these leave.
        """

    def managed_cache_bytes(
        self,
        serving: Serving,
        settings: Settings,
        rank: RankView,
        rules: CacheRules,
        context_tokens: int,
        sequences: int,
    ) -> int:
        """Bytes that the engine holds for `sequences` of `context_tokens` on this rank, its own overhead included."""

    def prints(
        self, serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, pool_bytes: int
    ) -> EnginePrints | None:
        """Tokens and concurrency as the engine of this version prints them for a pool; None where it prints none."""

    def expert_backend(self, serving: Serving, settings: Settings) -> str | None:
        """The kernels that run the experts, where that is known."""

    def refusals(self, serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
        """Why the engine would not start, beyond memory. Works without hardware (`serving.hardware` None)."""

    def doubts(self, serving: Serving, settings: Settings) -> tuple[Remark, ...]:
        """What of this model on this hardware is not modelled; each makes a verdict uncertain."""


def load(name: str) -> Engine:
    """The module of the engine called `name`."""
    return cast(Engine, import_module(f"moeplan.engines.{ENGINES[name]}"))


def flags_of(name: str) -> tuple[Flag, ...]:
    """The table of flags of the engine called `name`; empty for transformers, which has no command line."""
    if name == "transformers":
        return ()
    return cast("tuple[Flag, ...]", import_module(f"moeplan.engines.{ENGINES[name]}.flags").FLAGS)
