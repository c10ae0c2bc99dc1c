"""Serving engines: how each stores its cache, what it reserves, what it refuses.

Each engine is one module with the same functions: `settle`, `loaded_dtype`, `cache_rules`, `window_accountings`,
`runtime_lines`, `refusals`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from moeplan.core.deployment import Constants, Deployment, Option, Refusal
from moeplan.core.hardware import Hardware
from moeplan.core.kv_cache import Accounting, CacheRules
from moeplan.core.ledger import Line
from moeplan.core.model import ModelSpec

ENGINES: dict[str, str] = {"vllm": "vllm", "transformers": "transformers"}
"""Name to module; the first is the default."""


class Engine(Protocol):
    """What every engine module offers."""

    def settle(self, deployment: Deployment, hardware: Hardware, constants: Constants) -> tuple[Option, ...]:
        """The engine's settings as it would run them, each with its origin."""

    def loaded_dtype(self, dtype: str, capability: str | None) -> str:
        """The dtype that weights of `dtype` are loaded in when the user asks for none."""

    def cache_rules(
        self, spec: ModelSpec, *, asked: str | None, scheme: str | None, weight_dtype: str, capability: str | None
    ) -> CacheRules:
        """How the cache is stored: dtype asked for, else the checkpoint's scheme, else the engine's `auto`."""

    def window_accountings(self, rules: CacheRules, constants: Constants) -> dict[Accounting, CacheRules]:
        """The ways in which window layers can be counted, beside the one that is used."""

    def runtime_lines(
        self,
        spec: ModelSpec,
        deployment: Deployment,
        options: tuple[Option, ...],
        hardware: Hardware,
        constants: Constants,
        expert_format: str | None,
    ) -> tuple[Line, ...]:
        """Everything that is neither weights nor cache, on one rank."""

    def refusals(self, spec: ModelSpec, deployment: Deployment) -> tuple[Refusal, ...]:
        """Why the engine would not start, beyond memory."""


def load(name: str) -> Engine:
    """The module of the engine called `name`."""
    return cast(Engine, import_module(f"moeplan.engines.{ENGINES[name]}"))
