"""What a shell may complete: names of built-in models and accelerators, of engines, levels and rules of `check`."""

from moeplan.sources.profile_folders import Kind, builtin_folder


def model_names(incomplete: str) -> list[str]:
    """Built-in models whose name begins so, in any case."""
    return _beginning("models", incomplete)


def gpu_names(incomplete: str) -> list[str]:
    """Built-in accelerators whose name begins so, or has a part that does (`h100` of `nvidia-h100-sxm`)."""
    return _beginning("hardware", incomplete)


def engine_names(incomplete: str) -> list[str]:
    """Engines whose name begins so."""
    from moeplan.engines import ENGINES

    return [name for name in ENGINES if name.startswith(incomplete.lower())]


def level_names(incomplete: str) -> list[str]:
    """Levels that may fail a check, whose name begins so."""
    from moeplan.check.asked import FAIL_ON

    return [name for name in FAIL_ON if name.startswith(incomplete.lower())]


def rule_codes(incomplete: str) -> list[str]:
    """Codes of rules that begin so; behind a comma the next one."""
    from moeplan.check.rules import all_rules

    before, sign, typed = incomplete.rpartition(",")
    return [f"{before}{sign}{rule.code}" for rule in all_rules() if rule.code.startswith(typed)]


def _beginning(kind: Kind, incomplete: str) -> list[str]:
    typed = incomplete.lower()
    names = sorted(path.stem for path in builtin_folder(kind).glob("*.yaml"))
    found = [name for name in names if name.startswith(typed)]
    if found or kind == "models":
        return found
    # A shell takes only what begins as typed, so the vendor is left off.
    return [name.partition("-")[2] for name in names if name.partition("-")[2].startswith(typed)]
