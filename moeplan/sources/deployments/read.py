"""Files to deployments: each text is given to the readers of kinds, in their order, and what it says beside is gathered.

A file that cannot be read, or not without being rendered, is told as a remark on it; the others are read all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from moeplan.core.deployed import FileRead, FileRemark, Lines, PlainSecret, Quote, Spot
from moeplan.core.errors import InputError
from moeplan.sources.deployments.beside import NOTHING_BESIDE, Beside, Folders
from moeplan.sources.deployments.directives import read_directives
from moeplan.sources.deployments.files import ENV, STDIN, FileText, find_files, is_candidate, read_text
from moeplan.sources.deployments.kinds import DOCUMENT_READERS, TEXT_READERS
from moeplan.sources.deployments.nodes import Composed, Node, compose
from moeplan.sources.deployments.places import placed
from moeplan.sources.deployments.plain_secrets import has_token, scrubbed, secrets_in_script, secrets_in_yaml
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.templates import (
    TEMPLATE,
    first_in_scalars,
    is_rendered,
    template_of,
    without_open_templates,
)

_MAY_DEPLOY = ("model", "gpu", "vllm", "sglang", "trt", "tensorrt", "llama", "accelerator", "from ", "from\t")
"""A text without any of these is another program's, unless its keys are options of an engine."""
_KEY = re.compile(r"(?:^|[\s{,\"'])([A-Za-z][\w-]+)[\"']?\s*:")
_NAMES_ENGINE = re.compile(
    r"vllm|sglang|trt-?llm|tensorrt-?llm|llama[-._]?(?:server|cpp)|ollama|llm-d|llminference|(?:nvidia|amd)\.com/gpu"
    r"|modelArtifacts|dynamo|huggingfaceserver",
    re.IGNORECASE,
)
"""A text with one of these is likely to be a deployment, if it could be read."""
_YAML_NAME = re.compile(r".*\.(?:ya?ml|json)", re.IGNORECASE)
_KUSTOMIZATION = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_DOCUMENT = re.compile(r"^---(?=\s)", re.MULTILINE)
_LONG = 256 * 1024
_GENERAL = "kubernetes"


def read_paths(
    paths: Sequence[str],
    variables: Mapping[str, Quote] | None = None,
    stdin: str | None = None,
    root: Path | None = None,
) -> tuple[FileRead, ...]:
    """Everything that the files of these paths deploy, in the order of `find_files`.

    `variables` stand in for those that files leave open; `stdin` is standard input where it was read already; `root` is a
    folder to read the paths below, in the place of the working folder. Raises InputError for a path that is not there.
    """
    files = find_files(paths, root)
    folders = Folders(files)
    found = [_read(read_text(file, stdin), variables or {}, folders.of(file)) for file in files]
    beside = {os.path.dirname(file.path) for file in found if file.deployments}
    return tuple(_without_other_overlays(file, beside) for file in found)


def read_file(path: str, text: str, variables: Mapping[str, Quote] | None = None, *, named: bool = True) -> FileRead:
    """What one text deploys. `path` is how it is shown; its ending says what is tried first.

    With `named` a text that no reader recognises is told as a remark `nothing-recognised`.
    """
    beside = NOTHING_BESIDE if path == STDIN else Beside(os.path.dirname(path) or ".")
    return _read(FileText(path, named, text), variables or {}, beside)


def _read(file: FileText, variables: Mapping[str, Quote], beside: Beside) -> FileRead:
    if file.text is None:
        return FileRead(file.path, recognised=False, remarks=file.remarks)
    name = file.path.rpartition("/")[2]
    if name in _KUSTOMIZATION:
        return FileRead(file.path, recognised=False, remarks=(_overlay(file.path),))
    if not may_deploy(file.text):
        return _nothing(file)
    by_name = _YAML_NAME.fullmatch(name) is not None or file.path == STDIN
    tries = (_read_yaml, _read_plain) if by_name else (_read_plain, _read_yaml)
    for read in tries:
        found = read(file, variables, beside)
        if found is not None:
            return _finished(file, found)
    return _nothing(file)


def may_deploy(text: str) -> bool:
    """False for a text that no reader would know."""
    if _says_so(text):
        return True
    # A service of compose may be that of another file.
    return ("services:" in text and "extends:" in text) or (len(text) < _LONG and _has_options(text))


def _says_so(text: str) -> bool:
    small = text.lower()
    return any(word in small for word in _MAY_DEPLOY)


def _has_options(text: str) -> bool:
    """True for a text with a key that only an engine's own file of options has."""
    names = {name.replace("_", "-").removeprefix("no-") for name in _KEY.findall(text)}
    if not names:
        return False
    from moeplan.sources.deployments.kinds import sglang_config, trtllm_engine, vllm_config

    own = (*vllm_config.OWN, *sglang_config.OWN, *trtllm_engine.OWN)
    return not names.isdisjoint(name.replace("_", "-") for name in own)


def _finished(file: FileText, found: FileRead) -> FileRead:
    """With comments, and with each token once."""
    assert file.text is not None
    directives = read_directives(file.text)
    whole = found._replace(
        deployments=tuple(without_open_templates(each) for each in found.deployments),
        remarks=tuple(dict.fromkeys((*found.remarks, *directives.remarks))),
        directives=directives.found,
        secrets=_once(found.secrets),
    )
    # A token may stand where nobody looks for one: as a name, in the place of a number.
    return cast(FileRead, scrubbed(whole)) if has_token(file.text) else whole


def _nothing(file: FileText) -> FileRead:
    remarks: tuple[FileRemark, ...] = ()
    if file.named:
        told = "nothing in it is a deployment that moeplan reads"
        hint = "docs/checks.md lists the kinds of files; leave this one out"
        if file.text is not None and not file.text.strip():
            told = "there is nothing in it"
            hint = "see whether what renders the stream fails" if file.path == STDIN else "leave it out"
        remarks = (FileRemark("nothing-recognised", told, Spot(1), hint),)
    return FileRead(file.path, recognised=False, remarks=remarks)


# YAML ------------------------------------------------------------------------------------------------------------


def _read_yaml(file: FileText, variables: Mapping[str, Quote], beside: Beside) -> FileRead | None:
    """What the documents of a text deploy; None where none of them is known."""
    text = file.text or ""
    composed = compose(_thinned(text))
    likely = file.named or _NAMES_ENGINE.search(text) is not None
    if "services:" in text:
        variables = {**_of_env(beside), **variables}
    stream = Stream(file.path, composed.documents, variables, beside)
    lines = text.split("\n") if TEMPLATE.search(text) else ()
    found: list[Found] = []
    within: list[Lines] = []
    for document, own_lines in zip(composed.documents, _lines_of(composed.documents), strict=True):
        each = _of_document(document, stream, lines, likely)
        if each is not None:
            found.append(each)
            within.append(own_lines)
    broken = _broken(composed, text) if found or _is_yaml(file) else ()
    if not found and not (likely and broken and (_is_mapping(composed) or TEMPLATE.search(text))):
        return None
    deployments = tuple(
        deployed._replace(within=deployed.within.inside(lines))
        for each, lines in zip(found, within, strict=True)
        for deployed in each.deployments
    )
    others = [remark for remark in composed.remarks if remark.code != "file-broken"] if found else []
    secrets = [secret for document in composed.documents for secret in secrets_in_yaml(document)]
    read = FileRead(
        file.path,
        recognised=True,
        deployments=deployments,
        remarks=(*broken, *others, *(remark for each in found for remark in each.remarks)),
        secrets=(*(secret for each in found for secret in each.secrets), *secrets),
        passed_over=tuple(name for each in found for name in each.passed_over),
    )
    return placed(read, text.split("\n"), composed.folded)


def _is_yaml(file: FileText) -> bool:
    """False for scripts, Dockerfiles and the like, and for what is only called so: they are no broken YAML."""
    name = file.path.rpartition("/")[2]
    if file.path == STDIN or _YAML_NAME.fullmatch(name):
        return True
    return not is_candidate(name) and not (file.text or "").startswith("#!")


def _lines_of(documents: Sequence[Node]) -> Iterator[Lines]:
    """The lines of each document, up to the one where the next begins."""
    last = Lines().last
    made = []
    for document in reversed(documents):
        made.append(Lines(document.spot.line, last))
        last = document.spot.line - 1 if document.there else last
    return reversed(made)


def _thinned(text: str) -> str:
    """A text that YAML reads as it reads the first one, and faster: tabs of JSON as spaces, and of a long stream the
    documents that deploy nothing as empty lines."""
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")
    if len(text) < _LONG:
        return text
    made: list[str] = []
    place = 0
    for begin in (*(found.start() for found in _DOCUMENT.finditer(text)), len(text)):
        document = text[place:begin]
        needed = _says_so(document) or "ConfigMap" in document
        made.append(document if needed else "---" * document.startswith("---") + "\n" * document.count("\n"))
        place = begin
    return "".join(made)


def _of_document(document: Node, stream: Stream, lines: Sequence[str], likely: bool) -> Found | None:
    """What the first reader that knows the document finds in it; None where none does, or there is nothing to tell."""
    if document.kind not in ("map", "list"):
        return None
    template = template_of(document, lines) if lines else None
    if template is not None:
        return Found(remarks=(_unrendered(template),)) if likely else None
    for name in DOCUMENT_READERS:
        reader: Any = import_module(f"moeplan.sources.deployments.kinds.{name}")
        if not reader.recognises(document):
            continue
        unrendered = None if is_rendered(document) else first_in_scalars(document)
        if unrendered is not None:
            return Found(remarks=(_unrendered(unrendered),))
        found = _obeyed(reader.read, document, stream)
        # Kubernetes' own kinds run whatever there is; others are made for engines, also where they start none.
        return found if any(found) or name != _GENERAL else None
    return None


def _obeyed(read: Any, *arguments: object) -> Found:
    """What a reader finds; an input that it refuses is a remark."""
    try:
        found: Found = read(*arguments)
    except InputError as error:
        return Found(remarks=(FileRemark("file-broken", error.message, Spot(1), error.hint),))
    return found


def _broken(composed: Composed, text: str) -> tuple[FileRemark, ...]:
    """The end of a text that is no YAML, which a template is not either."""
    broken = tuple(remark for remark in composed.remarks if remark.code == "file-broken")
    template = TEMPLATE.search(text) if broken else None
    if template is None:
        return broken
    line = text.count("\n", 0, template.start()) + 1
    return (_unrendered(Spot(line, template.start() - text.rfind("\n", 0, template.start()))),)


def _is_mapping(composed: Composed) -> bool:
    """True where something of a broken text could be read, so that it was meant to be YAML; a lone text is prose."""
    return not composed.documents or any(document.kind in ("map", "list") for document in composed.documents)


def _unrendered(spot: Spot) -> FileRemark:
    told = "a template that is not rendered: what it deploys is not known"
    hint = "render it first: `helm template CHART | moeplan check -`, or `kustomize build DIR | moeplan check -`"
    return FileRemark("not-rendered", told, spot, hint)


def _overlay(path: str) -> FileRemark:
    folder = os.path.dirname(path) or "."
    told = "an overlay of kustomize: its patches are judged as they stand, without their base"
    return FileRemark("kustomization", told, Spot(1), f"judge it whole: `kustomize build {folder} | moeplan check -`")


def _without_other_overlays(file: FileRead, beside: set[str]) -> FileRead:
    """An overlay whose folder deploys no engine is another program's."""
    folder = os.path.dirname(file.path)
    if not any(remark.code == "kustomization" for remark in file.remarks) or folder in beside:
        return file
    return file._replace(remarks=tuple(remark for remark in file.remarks if remark.code != "kustomization"))


def _of_env(beside: Beside) -> dict[str, Quote]:
    """Variables of the `.env` beside a compose file."""
    found = beside.variables(ENV) or {}
    return {name: Quote(value, Spot(1), why=f"the file {ENV}") for name, value in found.items()}


# Other texts -----------------------------------------------------------------------------------------------------


def _read_plain(file: FileText, variables: Mapping[str, Quote], beside: Beside) -> FileRead | None:
    """What a script, a Makefile or the like deploys; None where no reader knows it."""
    text = file.text or ""
    stream = Stream(file.path, (), variables, beside)
    for name in TEXT_READERS:
        reader: Any = import_module(f"moeplan.sources.deployments.kinds.{name}")
        if not reader.recognises_text(file.path, text):
            continue
        found = _obeyed(reader.read_text, file.path, text, stream)
        if not any(found):
            return None
        secrets = secrets_in_script(Quote(text, Spot(1)))
        read = FileRead(
            file.path,
            recognised=True,
            deployments=found.deployments,
            remarks=found.remarks,
            secrets=(*found.secrets, *secrets),
            passed_over=found.passed_over,
        )
        return placed(read, text.split("\n"))
    return None


def _once(secrets: Sequence[PlainSecret]) -> tuple[PlainSecret, ...]:
    """Each token once, by its line and name, in the order of the file."""
    found: dict[tuple[int, str], PlainSecret] = {}
    for secret in sorted(secrets, key=lambda secret: secret.spot[:2]):
        found.setdefault((secret.spot.line, secret.name.replace("_", "-").lower()), secret)
    return tuple(found.values())
