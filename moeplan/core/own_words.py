"""What is asked, in the words that the user has for it: moeplan's options, or the engine's flags behind `--`."""

from __future__ import annotations

from collections.abc import Mapping

OPTIONS = {
    "context_tokens": "--context", "concurrency": "--concurrency", "kv_dtype": "--kv-dtype", "dtype": "--dtype",
    "utilization_fraction": "--utilization", "revision": "--revision", "tp": "--tp", "pp": "--pp", "dp": "--dp",
    "ep": "--ep", "dp_attention": "--dp-attention", "dcp": "--dcp", "redundant_experts": "--redundant-experts",
    "pp_layers": "--pp-layers", "num_nodes": "--nodes", "expert_parallel": "--ep",
}  # fmt: skip
"""moeplan's own option for each thing that engines have a flag for."""


def own_words(flags: Mapping[str, str], values: Mapping[str, object]) -> tuple[str, str]:
    """Values in moeplan's options, and those that belong behind `--` in the engine's flags.

    `flags` has the engine's flag of what was stated behind `--` (`Deployment.flags`): stating it again before `--`
    would be a contradiction. Switches have no value, and a `no-` where they are turned off.
    """
    ours: list[str] = []
    engines: list[str] = []
    for name, value in values.items():
        flag = flags.get(name) or OPTIONS[name]
        if isinstance(value, bool):
            words = flag if value else f"--no-{flag.removeprefix('--')}"
        else:
            words = f"{flag} {value}"
        (engines if flags.get(name) else ours).append(words)
    return " ".join(ours), " ".join(engines)


def switched(flags: Mapping[str, str], values: Mapping[str, object], *, spread: bool) -> dict[str, object]:
    """The same with `ep` as the engine's switch where that is what the user has (vLLM): over all ranks, or off.

    `spread` tells whether it is on now; it is left out where it stays as it is.
    """
    wanted = values.get("ep")
    if not isinstance(wanted, int) or "ep" in flags or not flags.get("expert_parallel"):
        return dict(values)
    rest = {name: value for name, value in values.items() if name != "ep"}
    return rest if (wanted > 1) == spread else rest | {"expert_parallel": wanted > 1}


def said(flags: Mapping[str, str], values: Mapping[str, object]) -> str:
    """The same as one text, for a sentence."""
    return " ".join(words for words in own_words(flags, values) if words)
