"""What a shell may complete: names of built-in models and accelerators, and of engines."""

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


def _beginning(kind: Kind, incomplete: str) -> list[str]:
    typed = incomplete.lower()
    names = sorted(path.stem for path in builtin_folder(kind).glob("*.yaml"))
    found = [name for name in names if name.startswith(typed)]
    if found or kind == "models":
        return found
    # A shell takes only what begins as typed, so the vendor is left off.
    return [name.partition("-")[2] for name in names if name.partition("-")[2].startswith(typed)]
