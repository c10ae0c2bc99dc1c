"""Models on disk: a folder, a config.json, one safetensors or GGUF file."""

from contextlib import suppress
from pathlib import Path

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.sources.loaded import (
    WITH_HEADERS,
    WITHOUT_HEADERS,
    Asked,
    LoadedModel,
    SourceKind,
    check_file,
    derived,
    from_gguf,
    loaded_model,
    one_of,
)


def exists(path: Path) -> bool:
    """True for a path that exists; a name too long or with a null byte names none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def from_path(path: Path, text: str) -> LoadedModel:
    """The model at a path that exists; `text` is what the user typed."""
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        from moeplan.sources.gguf.model import read_gguf

        return from_gguf(read_gguf(path), text, None, str(path))
    if suffix in WITHOUT_HEADERS:
        raise InputError(f"{text}: weights in this format have no header to read", hint="give the model's config.json")
    from moeplan.sources.config_files import CONFIG, read_config_folder

    checkpoint, remarks = _local_checkpoint(path)
    if suffix == ".safetensors":
        path = path.parent
        if not (path / CONFIG).exists():
            raise InputError(
                f"{text}: there is no {CONFIG} beside it, which says the model's shape", hint="put one there"
            )
    elif checkpoint is None and path.is_dir():
        remarks += _gguf_remarks(path, text, has_config=(path / CONFIG).exists())
    config, sidecar, config_path = read_config_folder(path)
    where = str(config_path)
    kind: SourceKind = "config" if checkpoint is None else "headers"
    return loaded_model(text, None, where, kind, config, sidecar, where, remarks, checkpoint=checkpoint)


def _local_checkpoint(path: Path) -> tuple[Checkpoint | None, tuple[Remark, ...]]:
    """What the headers of a folder's or a file's safetensors say; a config named by itself is read alone."""
    if not path.is_dir() and path.suffix.lower() != ".safetensors":
        return None, ()
    from moeplan.sources.safetensors_headers import choose_folder_files, read_checkpoint_file, read_checkpoint_folder

    checkpoint = read_checkpoint_folder(path) if path.is_dir() else read_checkpoint_file(path)
    if checkpoint is None:
        return None, derived(choose_folder_files(path).remarks)
    return checkpoint, checkpoint.remarks


def named_file(path: Path, asked: Asked, text: str) -> Path:
    """The path that is meant: `--file` in a folder. Raises InputError for options that a local path has no use for."""
    if asked.revision is not None:
        raise InputError(
            f"{text} is a local path, which has no revision {asked.revision!r}",
            hint="leave out --revision, or write hf://org/name for a repository on the Hub",
        )
    if asked.file is None:
        return path
    if not path.is_dir():
        raise InputError(f"{text} is a file itself: it holds no {asked.file}", hint="leave out --file")
    check_file(asked.file)
    if not exists(path / asked.file):
        there = [name for name in _sizes(path) if name.endswith(WITH_HEADERS)]
        raise InputError(f"{text} holds no file {asked.file}", hint=one_of(there))
    return path / asked.file


def _gguf_remarks(folder: Path, text: str, *, has_config: bool) -> tuple[Remark, ...]:
    """What a folder without safetensors holds in GGUF. Raises InputError where that is all that describes a model."""
    sizes = {name: size for name, size in _sizes(folder).items() if name.lower().endswith(".gguf")}
    if not sizes:
        return ()
    from moeplan.sources.hub.gguf import gguf_files, gguf_list

    models = gguf_list(gguf_files(sizes))
    if not has_config:
        raise InputError(f"{text} holds GGUF files and no config.json", hint=f"name one with --file: {models}")
    message = f"the folder holds its weights in GGUF: name one with --file to read it: {models}"
    return derived((Remark("gguf-only", "warning", message, text),))


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files that can be read there."""
    sizes = {}
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            with suppress(OSError):  # a link to nowhere
                sizes[path.name] = path.stat().st_size
    return sizes
