"""llama-swap's config: models that are started when they are asked for, and which of them run beside each other.

Source: mostlygeek/llama-swap internal/config (load.go, commands.go, config.go) of 2026. Comments in a command are lines that
begin with `#`, line breaks are spaces, macros (`${name}`) are replaced as texts. Without groups one model runs at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote, Spot
from moeplan.core.deployment import Origin
from moeplan.sources.deployments.containers import engine_runs
from moeplan.sources.deployments.docker_run import docker_run
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import without_secret_values, without_secrets
from moeplan.sources.deployments.record import own_gang, recorded, visible_devices
from moeplan.sources.deployments.stream import Found, Stream

KIND = "llama-swap"
HOST = "llama-swap"
ONE_AT_A_TIME = "(default)"
"""The group of models without one, as llama-swap calls it."""
FIRST_PORT = "5800"
NOWHERE = Spot(0)
"""Of a value that does not stand in the file: it has the place where it is used."""
MOST_PIECES = 1_000
MOST_CHARACTERS = 200_000
"""A command that grows beyond this (`a: ${b}${b}`) is left as it stands."""

_MACRO = re.compile(r"\$\{(env\.)?([A-Za-z0-9_.-]+)\}")
_WINDOWS = re.compile(r"(?:^|[\s\"=])[A-Za-z]:\\|\\\S+\.exe\b")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*'|["'\\])+""", re.DOTALL)
_WINDOWS_WORD = re.compile(r"""(?:[^\s"]|"[^"]*"|")+""")
_UNQUOTED = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'""", re.DOTALL)


class _Piece(NamedTuple):
    """A part of a command, and where it stands."""

    text: str
    spot: Spot
    left: int = 1
    """Column of its further lines."""
    unknown: str = ""
    """The macro that it is, where that is not known."""
    default: str = ""
    """What it is the default of, where the file does not state it."""


class _Groups(NamedTuple):
    """Which models run beside each other."""

    not_at_once: Mapping[str, str]
    hosts: Mapping[str, str]
    remark: FileRemark | None = None


def recognises(document: Node) -> bool:
    """Models with commands on top."""
    models = document.at("models")
    if document.at("apiVersion").there or models.kind != "map":
        return False
    return any(model.at("cmd").is_scalar for model in models.entries.values())


def read(document: Node, stream: Stream) -> Found:
    """One deployment for each model that an engine serves."""
    groups = _groups(document)
    deployments: list[Deployed] = []
    secrets: list[PlainSecret] = []
    passed_over: list[str] = []
    for name, model in document.at("models").entries.items():
        found = _model(name, model, document, stream)
        secrets += found.secrets
        if not found.deployments:
            passed_over.append(name)
        deployments += [
            each._replace(not_at_once=groups.not_at_once.get(name, ""), host=groups.hosts.get(name, HOST))
            for each in found.deployments
        ]
    remarks = () if groups.remark is None else (groups.remark,)
    return Found(tuple(deployments), remarks, tuple(secrets), tuple(passed_over))


def _model(name: str, model: Node, document: Node, stream: Stream) -> Found:
    macros = _macros(name, model, document, stream)
    words = _words(model.at("cmd"), macros)
    words, secrets = without_secrets(words)
    variables = dict(stream.variables)
    for item in model.at("env"):
        key, sign, value = item.word().partition("=")
        if sign:
            variables[key] = _joined(_expanded(_Piece(value, item.spot), macros))
    variables, in_variables = without_secret_values(variables)
    run = docker_run(words)
    if run is None:
        runs = engine_runs(words, variables, None)
    else:
        runs = engine_runs(run.argv, run.variables, run.image, run.gpus, has_command=run.has_command)
    secrets = (*secrets, *in_variables)
    if not runs:
        return Found(secrets=secrets)
    gpus = run.gpus if run is not None else None
    base = Deployed(
        KIND,
        name,
        model.key,
        image=run.image if run is not None else None,
        gang=own_gang(Gang(gpus), runs[0].variables),
        device_ids=(run.device_ids if run is not None else ()) or visible_devices(runs[0].variables),
    )
    deployed = recorded(base, runs[:1])[0]
    aliases = (alias.quote() or alias.at("id").quote() for alias in model.at("aliases"))
    served = (Quote(name, model.key), *(alias for alias in aliases if alias is not None))
    return Found((deployed._replace(served_names=served),), secrets=secrets)


# Macros and words ------------------------------------------------------------------------------------------------


def _macros(name: str, model: Node, document: Node, stream: Stream) -> dict[str, _Piece]:
    """By name, those of the model before those of the file; `env.NAME` are variables of the machine."""
    found = {"MODEL_ID": _Piece(name, model.key), "PORT": _port(document.at("startPort"))}
    for node in (document.at("macros"), model.at("macros")):
        found |= {key: _piece(value) for key, value in node.entries.items() if value.is_scalar}
    found |= {f"env.{key}": _Piece(quote.text, NOWHERE) for key, quote in stream.variables.items()}
    return found


def _port(node: Node) -> _Piece:
    return _piece(node) if node.there else _Piece(FIRST_PORT, NOWHERE, default="startPort")


def _piece(node: Node) -> _Piece:
    return _Piece(node.word(), node.spot, node.spot.column)


def _words(command: Node, macros: Mapping[str, _Piece]) -> tuple[Quote, ...]:
    """The words of a command, each with the place where it stands: a macro's word with that of the macro."""
    pieces = _expanded(_piece(command), macros)
    text = "".join(piece.text for piece in pieces)
    text = re.sub(r"(?m)^[^\S\n]*#.*$", lambda found: " " * len(found.group()), text)
    text = re.sub(r"\\(?=[^\S\n]*$)", " ", text, flags=re.MULTILINE)
    windows = _WINDOWS.search(text) is not None
    found = (_WINDOWS_WORD if windows else _WORD).finditer(text)
    return tuple(_word(each, pieces, windows=windows) for each in found)


def _word(found: re.Match[str], pieces: Sequence[_Piece], *, windows: bool) -> Quote:
    text = found.group().replace('"', "") if windows else _UNQUOTED.sub(_inner, found.group())
    start, place = 0, None
    unknown: list[str] = []
    defaults: list[str] = []
    for piece in pieces:
        end = start + len(piece.text)
        if place is None and found.start() < end:
            place = _within(piece, found.start() - start)
        if piece.unknown and start < found.end() and end > found.start():
            unknown.append(piece.unknown)
        if piece.default and start < found.end() and end > found.start():
            defaults.append(piece.default)
        start = end
    origin: Origin = "unresolved" if unknown else "default" if defaults else "stated"
    return Quote(text, place or pieces[-1].spot, origin, tuple(unknown), ", ".join(defaults))


def _inner(found: re.Match[str]) -> str:
    escaped, double, single = found.groups()
    if escaped is not None:
        return str(escaped)
    return single if double is None else re.sub(r'\\(["\\$`\n])', r"\1", double)


def _within(piece: _Piece, place: int) -> Spot:
    """The place of a character of a piece."""
    before = piece.text[:place]
    lines = before.count("\n")
    column = piece.left + place - before.rfind("\n") - 1 if lines else piece.spot.column + place
    return piece.spot._replace(line=piece.spot.line + lines, column=column)


def _expanded(piece: _Piece, macros: Mapping[str, _Piece]) -> list[_Piece]:
    """The piece with its macros in place; those that the file lacks stay as they stand."""
    found: list[_Piece] = []
    waiting = [(piece, macros)]
    size = 0
    while waiting:
        text, known = waiting.pop()
        macro = _MACRO.search(text.text)
        size += len(text.text)
        if macro is None or len(found) > MOST_PIECES or size > MOST_CHARACTERS:
            found.append(text if macro is None else text._replace(unknown=text.text))
            continue
        found.append(text._replace(text=text.text[: macro.start()]))
        waiting.append((text._replace(text=text.text[macro.end() :], spot=_within(text, macro.end())), known))
        name, place = (macro.group(1) or "") + macro.group(2), _within(text, macro.start())
        held = known.get(name)
        if held is None:
            found.append(_Piece(macro.group(), place, unknown=macro.group()))
        else:
            held = held._replace(spot=place) if held.spot == NOWHERE else held
            # A macro that holds itself is none.
            waiting.append((held, {key: value for key, value in known.items() if key != name}))
    return found


def _joined(pieces: Sequence[_Piece]) -> Quote:
    unknown = tuple(piece.unknown for piece in pieces if piece.unknown)
    text = "".join(piece.text for piece in pieces)
    return Quote(text, pieces[0].spot, "unresolved" if unknown else "stated", unknown)


# Groups ----------------------------------------------------------------------------------------------------------


def _groups(document: Node) -> _Groups:
    """Groups as llama-swap has them: with `swap` one member runs at a time, with `exclusive` the other groups are unloaded,
    unless they are `persistent`. Both are on unless they are switched off."""
    router = document.at("routing", "router")
    uses_matrix = router.at("use").word() == "matrix" or document.at("matrix").there
    models = list(document.at("models").entries)
    if uses_matrix:
        matrix = document.at("matrix") if document.at("matrix").there else router.at("settings", "matrix")
        told = "which models run beside each other is not read out of `matrix`: each is judged alone"
        hint = "look at sets of models together yourself"
        return _Groups(dict.fromkeys(models, ONE_AT_A_TIME), {}, FileRemark("swap-matrix", told, matrix.key, hint))
    groups = document.at("groups").entries or router.at("settings", "groups").entries
    apart = dict(_members(groups))
    at_once: dict[str, str] = {}
    hosts: dict[str, str] = {}
    # A group that stays beside others shares the machine with all of them.
    some_stay = any(not _alone(group) for group in groups.values())
    for model in models:
        name = apart.get(model)
        group = groups[name] if name is not None else None
        if group is None or (not group.at("swap").off and _alone(group)):
            at_once[model] = ONE_AT_A_TIME
        elif not group.at("swap").off:
            at_once[model] = name or ""
        elif _alone(group) and not some_stay:
            # Its members run together, and never beside other groups.
            hosts[model] = f"{HOST} {name}"
    return _Groups(at_once, hosts)


def _members(groups: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    for name, group in groups.items():
        for member in group.at("members"):
            yield member.word(), name


def _alone(group: Node) -> bool:
    """True for a group that runs beside no other."""
    return not group.at("exclusive").off and not group.at("persistent").on
