"""Variables in the words of a command, expanded where the file tells what they hold. Nothing is ever executed."""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployed import Quote


def expand_kubernetes(quote: Quote, variables: Mapping[str, Quote]) -> Quote:
    """`$(VAR)` as the kubelet expands it in `command`, `args` and `env`; `$$(VAR)` stays `$(VAR)`.

    A variable that the file does not tell is named in the result's `unknown`, and the origin is `unresolved`.
    """
    raise NotImplementedError


def expand_shell(quote: Quote, variables: Mapping[str, Quote], gpus: Quote | None = None) -> Quote:
    """`$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR-}`, `${VAR:=x}`, `$((A * B))` as a shell expands them inside double quotes.

    `gpus` is what `$(nvidia-smi -L | wc -l)` gives: the GPUs of the pod. Every other `$(command)` is unknown.
    """
    raise NotImplementedError


def expand_compose(quote: Quote, variables: Mapping[str, Quote]) -> Quote:
    """`${VAR:-default}`, `$VAR`, `$$` as docker compose reads them; unset without default is unknown."""
    raise NotImplementedError
