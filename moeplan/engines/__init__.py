"""Serving engines: how each stores its cache, what it reserves, what it refuses.

Each engine is one module, or folder, with the functions of `Engine`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from moeplan.core.deployment import Constants, Deployment, Option, Refusal
from moeplan.core.hardware import Hardware
from moeplan.core.kv_cache import Accounting, CacheRow, CacheRules
from moeplan.core.ledger import Line
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Quantisation
from moeplan.core.weights import Owned

ENGINES: dict[str, str] = {"vllm": "vllm", "transformers": "transformers"}
"""Name to module; the first is the default."""


class Engine(Protocol):
    """What every engine module offers."""

    VOCABULARY_PADDING: int

    def settle(self, deployment: Deployment, hardware: Hardware, constants: Constants) -> tuple[Option, ...]:
        """The engine's settings as it would run them, each with its origin; the memory share comes first."""

    def loaded_dtype(self, dtype: str, capability: str | None) -> str:
        """The dtype that weights of `dtype` are loaded in when the user asks for none."""

    def cache_rules(
        self, spec: ModelSpec, *, asked: str | None, scheme: str | None, weight_dtype: str, capability: str | None
    ) -> CacheRules:
        """How the cache is stored: dtype asked for, else the checkpoint's scheme, else the engine's `auto`."""

    def window_accountings(self, rules: CacheRules, constants: Constants) -> dict[Accounting, CacheRules]:
        """The ways in which window layers can be counted."""

    def managed_cache_bytes(
        self,
        rows: tuple[CacheRow, ...],
        rules: CacheRules,
        deployment: Deployment,
        options: tuple[Option, ...],
        constants: Constants,
    ) -> int:
        """Bytes that the engine holds on one rank for all sequences at the asked context, its own overhead included."""

    def runtime_lines(
        self,
        spec: ModelSpec,
        deployment: Deployment,
        options: tuple[Option, ...],
        hardware: Hardware,
        constants: Constants,
        weights: tuple[Line, ...],
    ) -> tuple[Line, ...]:
        """Everything that is neither weights nor cache, on one rank; `weights` are its weight lines."""

    def refusals(
        self,
        spec: ModelSpec,
        owned: tuple[Owned, ...],
        quantisation: Quantisation,
        deployment: Deployment,
        hardware: Hardware | None,
    ) -> tuple[Refusal, ...]:
        """Why the engine would not start, beyond memory."""

    def doubts(
        self, spec: ModelSpec, quantisation: Quantisation, hardware: Hardware | None, deployment: Deployment
    ) -> tuple[Remark, ...]:
        """What of this model on this hardware is not modelled; each makes a verdict uncertain."""

    def leaves_out(self, name: str) -> str | None:
        """Why a weight of this name is never loaded, or None."""


def load(name: str) -> Engine:
    """The module of the engine called `name`."""
    return cast(Engine, import_module(f"moeplan.engines.{ENGINES[name]}"))
