"""Shell scripts as lists of words: what a script would run, as far as it can be known without running it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from posixpath import normpath
from typing import Literal, NamedTuple

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.shell_conditions import found_empty, holds
from moeplan.sources.deployments.shell_tokens import Segment, Token, tokens
from moeplan.sources.deployments.shell_wrappers import (
    CONTAINERS,
    PREFIXES,
    SHELLS,
    WRAPPERS,
    behind_c,
    behind_env,
    behind_wrapper,
    program_of,
)
from moeplan.sources.deployments.variables import Expander, Part, quoted, written, written_place

MOST_SCRIPT = 4 * 1024 * 1024
"""Characters of a script; longer ones are no deployment's."""
MOST_COMMANDS = 5_000
MOST_GROWTH = 4 * 1024 * 1024
"""Characters that all variables of one script may grow to."""
MOST_SHELLS = 8
"""Shells inside of shells."""
MOST_EXPORTED = 500

_REDIRECTIONS = frozenset(("&>>", "&>", "<<<", "<<-", "<<", "<&", "<>", ">>", ">&", ">|", "<", ">"))
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\[[^\]]*\])?(\+?)=")
_LIST = re.compile(r"\$\{([A-Za-z_]\w*)\[[@*]\]\}|\$([@*])|\$\{([@*])\}", re.ASCII)

_DECLARES = frozenset(("export", "declare", "typeset", "readonly", "local"))
_SKIPPED = frozenset(("then", "do", "!", "{", "}", "time", "coproc"))

Value = Quote | tuple[Quote, ...]


class ShellCommand(NamedTuple):
    """One simple command of a script."""

    words: tuple[Quote, ...]
    variables: Mapping[str, Quote]
    """What the environment holds then: exported before, and written in front of it (`A=1 vllm serve`)."""
    files: Mapping[str, Quote] = {}
    """Texts of files that the script itself writes before (`cat > FILE <<EOF`)."""


def read_script(script: Quote, variables: Mapping[str, Quote], gpus: Quote | None = None) -> tuple[ShellCommand, ...]:
    """Every simple command of a script, in order, of all branches; each word with its own line and column.

    Comments, quotes, line continuations, `&&`, `||`, `;`, `|`, `&`, if/for/while/case words, assignments (also `export`),
    `exec`, redirections, here-documents (skipped). A word that stands for several (unquoted `$ARGS`) is split. Wrappers and
    shells inside are looked through, as `unwrapped` does. A variable that branches set differently is unknown behind them.
    """
    return tuple(_read(script, variables, gpus, None, _At(script.spot.column)))


def unwrapped(
    argv: Sequence[Quote], variables: Mapping[str, Quote], gpus: Quote | None = None
) -> tuple[ShellCommand, ...]:
    """The commands behind `sh -c SCRIPT`, `bash -lc -- SCRIPT`, `env A=1 ...`, or `argv` itself where it is none of these.

    Looks through shells inside of shells; `numactl`, `stdbuf`, `timeout 30`, `tini --`, `mpirun -n 8`, `ray start ...;` too.
    """
    return tuple(_unwrap(ShellCommand(tuple(argv), variables), gpus, _At()))


def script_of(argv: Sequence[Quote]) -> Quote | None:
    """The script of `sh -c SCRIPT`, with its place; None for other words."""
    found = behind_c(argv)
    return argv[found] if found is not None else None


# Commands --------------------------------------------------------------------------------------------------------


class _Frame:
    """A block whose parts may run or not: what they change is known behind it only where they agree."""

    def __init__(self, kind: Literal["if", "loop", "case"]) -> None:
        self.kind = kind
        self.before: dict[str, Value | None] = {}
        """What the part that is being read has changed, as it was."""
        self.parts: list[tuple[bool | None, dict[str, Value | None]]] = []
        """Of each part that was read: whether it runs, as far as that is known, and what it sets."""
        self.complete = False
        """True where one of the parts must run: there is an `else`."""
        self.in_condition = kind == "if"
        self.in_pattern = kind == "case"
        self.holds: bool | None = None
        """The condition of the part that is being read, where it is known."""
        self.empty: set[str] = set()
        """Names that the condition found empty: `[ -z "$TP" ]`."""

    def asked(self, found: bool | None, operator: str) -> None:
        """One more command of the condition, with what stands between it and the one before."""
        before = self.holds
        match operator:
            case "&&":
                self.holds = False if False in (before, found) else None if None in (before, found) else True
            case "||":
                self.holds = True if True in (before, found) else None if None in (before, found) else False
            case "|" | "|&":
                self.holds = None
            case _:
                self.holds = found


class _Script:
    """Reads one script."""

    def __init__(
        self,
        script: Quote,
        variables: Mapping[str, Quote],
        gpus: Quote | None,
        arguments: Sequence[Quote] | None,
        left: int,
    ) -> None:
        self.text = script.text[:MOST_SCRIPT]
        self.spot = script.spot
        self.put_in = script.put_in
        self.left = left
        """Column of the script's later lines in its file."""
        self.lines = [found.start() + 1 for found in re.finditer("\n", written(script))]
        self.variables: dict[str, Quote] = dict(variables)
        self.arrays: dict[str, Sequence[Quote]] = {"@": tuple(arguments)} if arguments is not None else {}
        self.expander = Expander(self.variables, gpus, self.arrays)
        self.exported = dict.fromkeys(variables)
        self.all_exported = False
        self.shown: dict[str, Quote] | None = None
        self.frames: list[_Frame] = []
        self.growth = 0
        # The command that is being read.
        self.words: list[Quote] = []
        self.raw: list[str] = []
        self.own: dict[str, Quote] = {}
        self.own_lists: dict[str, tuple[Quote, ...]] = {}
        self.operator = ""
        """Between the command before and this one."""
        self.last_raw: list[str] = []
        self.negated = False
        self.redirected = self.target = ""
        """The last redirection, and where it writes to."""
        self.literal = False
        """True where nothing in the here-document is replaced: `<<'EOF'`."""
        self.writes = ""
        """The file that the last command writes a here-document to."""
        self.files: dict[str, Quote] = {}

    def spot_at(self, offset: int) -> Spot:
        offset = written_place(self.put_in, offset)
        number = bisect_right(self.lines, offset)
        column = self.left + offset - self.lines[number - 1] if number else self.spot.column + offset
        return Spot(self.spot.line + number, column, self.spot.path)

    def commands(self) -> Iterator[ShellCommand]:
        """The simple commands, wrappers and all."""
        source = tokens(self.text)
        skip_word = False
        array: tuple[str, bool, list[Quote]] | None = None
        previous: Token | None = None
        for token in source:
            if array is not None:
                array = self._array(token, array)
            elif token.kind == "word":
                if skip_word:
                    skip_word = False
                    self._redirects(token)
                else:
                    self._word(token)
            elif token.kind == "operator" and token.text in _REDIRECTIONS and not self._in_test():
                skip_word = True
                self.redirected = token.text
            elif token.kind == "document":
                self._document(token)
            elif (
                token.text == "("
                and previous is not None
                and previous.end == token.start
                and self._opens_array(previous)
            ):
                found = _ASSIGNMENT.match(previous.segments[0].text)
                assert found is not None
                array = (found.group(1), bool(found.group(3)), [])
            elif not (self._in_test() and token.kind == "operator" and token.text != ";"):
                skip_word = False
                if token.text == "(" and self.words and self.raw[0] != "case" and not self._in_pattern():
                    self.words, self.raw = [], []  # a function's name
                yield from self._end(token)
            previous = token
        yield from self._end(Token("line", len(self.text), len(self.text)))
        while self.frames:
            self._close()

    # Files

    def _redirects(self, token: Token) -> None:
        """Takes the word behind a redirection."""
        if self.redirected.startswith("<<"):
            self.literal = any(segment.quoted for segment in token.segments)
        elif self.redirected in (">", ">|"):
            self.target = self._joined(token, self.spot_at(token.start)).text

    def _document(self, token: Token) -> None:
        """Keeps a here-document that `cat` or `tee` writes to a file."""
        if not self.writes:
            return
        text = Quote(token.text, self.spot_at(token.start))
        if not self.literal and self.growth <= MOST_GROWTH:
            self.expander.spot = text.spot
            text = quoted(text, self.expander.whole(text.text))
            self.growth += len(text.text)
        self.files[normpath(self.writes)] = text._replace(why=f"written to {self.writes}")
        self.writes = ""

    # Words

    def _word(self, token: Token) -> None:
        frame = self.frames[-1] if self.frames else None
        bare = token.bare
        if frame is not None and frame.in_pattern:
            if bare == "esac":
                self._close()
            elif bare == "*":
                frame.complete = True
            return
        if not self.words and not self.own and not self.own_lists and self._reserved(bare):
            return
        if self._assigns(token):
            return
        self.raw.append(self.text[token.start : token.end][:200])
        self.words += self._fields(token)

    def _reserved(self, bare: str) -> bool:
        """True for a word of the shell's own that is dealt with here, or needs no dealing with."""
        match bare:
            case "if":
                self.frames.append(_Frame("if"))
            case "elif" | "else":
                if self.frames and self.frames[-1].kind == "if":
                    self._part_ends()
                    self.frames[-1].in_condition = bare == "elif"
                    self.frames[-1].complete = bare == "else"
                    self.frames[-1].holds = True if bare == "else" else None
            case "fi" | "done" | "esac":
                kind = {"fi": "if", "done": "loop", "esac": "case"}[bare]
                if self.frames and self.frames[-1].kind == kind:
                    self._close()
            case "while" | "until":
                self.frames.append(_Frame("loop"))
            case _:
                if bare == "then" and self.frames:
                    self.frames[-1].in_condition = False
                self.negated = self.negated or bare == "!"
                return bare in _SKIPPED
        return True

    def _assigns(self, token: Token) -> bool:
        """Takes `A=1` in front of a command, or behind `export`; False for other words."""
        declared = bool(self.words) and self.words[0].text in _DECLARES
        if (self.words and not declared) or not token.segments:
            return False
        first = token.segments[0]
        found = None if first.quoted or first.expands else _ASSIGNMENT.match(first.text)
        if found is None:
            return False
        name, place, adds = found.groups()
        if place is not None:
            self.own[name] = _either(name, self.spot_at(token.start))
            return True
        rest = (Segment(first.text[found.end() :]), *token.segments[1:])
        spot = self.spot_at(token.start + found.end())
        if self.own and not declared:  # `A=1 B=$A`
            self.expander.variables = ChainMap(self.own, self.variables)
        value = self._joined(Token("word", token.start, token.end, segments=rest), spot)
        self.expander.variables = self.variables
        if adds:
            old = self.own.get(name) or self.variables.get(name)
            if old is not None:
                value = quoted(value, Part(old.text + value.text, (*old.unknown, *value.unknown)))
        self.own[name] = value
        if declared:
            self.raw.append(name)
        return True

    def _opens_array(self, token: Token) -> bool:
        """True behind `ARGS=` and `ARGS+=`."""
        if len(token.segments) != 1 or token.kind != "word" or (self.words and self.words[0].text not in _DECLARES):
            return False
        found = _ASSIGNMENT.fullmatch(token.bare)
        return found is not None and found.group(2) is None

    def _array(self, token: Token, array: tuple[str, bool, list[Quote]]) -> tuple[str, bool, list[Quote]] | None:
        name, adds, words = array
        if token.kind == "word":
            words += self._fields(token)
        if token.text != ")":
            return array
        self.own.pop(name, None)
        before = self.own_lists.get(name, self.arrays.get(name, ())) if adds else ()
        self.growth += len(before)
        whole = (*before, *words) if self.growth <= MOST_GROWTH else (_either(f"{name}[@]", self.spot_at(token.start)),)
        self.own_lists[name] = whole
        return None

    def _fields(self, token: Token) -> list[Quote]:
        """The words that one word stands for."""
        spot = self.spot_at(token.start)
        made: list[Quote] = []
        current = _Field(spot)
        for segment in token.segments:
            if not segment.expands:
                current.add(Part(segment.text), started=bool(segment.text) or segment.quoted)
                continue
            words = self._listed(segment)
            if words is not None:
                current.started = bool(current.parts)  # `"${NONE[@]}"` is no word, not an empty one
                for number, word in enumerate(words):
                    if number:
                        made += current.finished()
                        current = _Field(spot)
                    current.take(word)
                continue
            part = self._expanded(segment, spot)
            # What is open may be several words; it is one here, unless its parts are seen to be none.
            if segment.quoted or any(len(each.split()) != 1 for each in part.unknown):
                current.add(part, started=True)
                continue
            pieces = part.text.split()
            if not part.text:
                continue
            if not pieces or part.text[0].isspace():
                made += current.finished()
                current = _Field(spot)
            for number, piece in enumerate(pieces):
                if number:
                    made += current.finished()
                    current = _Field(spot)
                unknown = tuple(each for each in part.unknown if each in piece)
                current.add(part._replace(text=piece, unknown=unknown), started=True)
            if pieces and part.text[-1].isspace():
                made += current.finished()
                current = _Field(spot)
        made += current.finished()
        return made

    def _listed(self, segment: Segment) -> Sequence[Quote] | None:
        """The words of `"${ARGS[@]}"` and `"$@"`, where they are known."""
        found = _LIST.fullmatch(segment.text)
        if found is None:
            return None
        words = self.arrays.get(found.group(1) or "@")
        if words is None:
            return None
        self.growth += sum(len(word.text) + 8 for word in words)
        return None if self.growth > MOST_GROWTH else words

    def _expanded(self, segment: Segment, spot: Spot) -> Part:
        if segment.text[0] in "<>":
            return Part(segment.text, (segment.text,))
        self.expander.spot = spot
        part = Part(segment.text, (segment.text,))
        if self.growth <= MOST_GROWTH:
            part, _ = self.expander.one(segment.text, 0)
            self.growth += len(part.text)
        return part

    def _joined(self, token: Token, spot: Spot) -> Quote:
        """A word that is not split: what an assignment takes."""
        field = _Field(spot)
        field.started = True
        for segment in token.segments:
            field.add(self._expanded(segment, spot) if segment.expands else Part(segment.text), started=True)
        return field.finished()[0]

    # Ends

    def _in_test(self) -> bool:
        return bool(self.words) and self.words[0].text == "[[" and self.words[-1].text != "]]"

    def _in_pattern(self) -> bool:
        return bool(self.frames) and self.frames[-1].in_pattern

    def _end(self, token: Token) -> Iterator[ShellCommand]:
        """The end of a command: at an operator, or at the end of a line."""
        if self._in_pattern():
            if token.text == ")":
                self.frames[-1].in_pattern = False
            return
        if self.words or self.own or self.own_lists:
            yield from self._finish(token.text)
        if token.text in (";;", ";&", ";;&") and self.frames and self.frames[-1].kind == "case":
            self._part_ends()
            self.frames[-1].in_pattern = True
        if token.kind == "operator":
            self.operator = token.text

    def _finish(self, ending: str) -> Iterator[ShellCommand]:
        words, own, lists = self.words, self.own, self.own_lists
        raw, between = self.raw, self.operator
        self.words, self.own, self.own_lists, self.raw, self.operator = [], {}, {}, [], ""
        negated, self.negated = self.negated, False
        target, self.target = self.target, ""
        self.writes = _written_by(words, target)
        tested, self.last_raw = self.last_raw, raw
        frame = self.frames[-1] if self.frames else None
        if frame is not None and frame.in_condition:
            frame.empty |= found_empty(raw)
            frame.asked(None if negated or own or lists else holds(words), between)
        first = words[0].text if words else ""
        if not words or first in _DECLARES:
            maybe = between == "||" or (between == "&&" and bool(tested) and tested[0] in ("[", "[[", "test"))
            empty = found_empty(tested) if between == "&&" else set()
            self._assign({**own, **lists}, maybe=maybe, empty=empty)
            if first == "export" or "-x" in raw[1:]:
                self._export([word.text for word in words[1:]] + list(own))
            return
        for name, value in lists.items():  # a list in front of a command changes nothing for it
            self._set(name, value)
        match first:
            case "set" if "allexport" in raw or any(re.fullmatch(r"-[a-z]*a[a-z]*", each) for each in raw[1:]):
                self.all_exported = True
                self.shown = None
            case "unset":
                for word in words[1:]:
                    self._set(word.text, None)
            case "for" | "select" if len(words) > 1:
                self.frames.append(_Frame("loop"))
                name, values = words[1].text, words[3:]
                if _ASSIGNMENT.fullmatch(f"{name}="):
                    self._set(name, values[0] if len(values) == 1 else _either(name, words[1].spot))
            case "case":
                self.frames.append(_Frame("case"))
                self.frames[-1].in_pattern = ending != ")"  # `case $X in a) ...` on one line
            case "function":
                pass
            case _:
                yield ShellCommand(tuple(words), self._environment(own), self.files)

    def _environment(self, own: Mapping[str, Quote]) -> Mapping[str, Quote]:
        if self.shown is None:
            names = islice(self.variables if self.all_exported else self.exported, MOST_EXPORTED)
            self.shown = {name: self.variables[name] for name in names if name in self.variables}
        return {**self.shown, **own} if own else self.shown

    def _export(self, names: Sequence[str]) -> None:
        self.exported.update(dict.fromkeys(names))
        self.shown = None

    # Variables

    def _assign(self, values: Mapping[str, Value], *, maybe: bool, empty: set[str]) -> None:
        for name, value in values.items():
            old = self._get(name)
            if not maybe:
                self._set(name, value)
            elif name in empty and _is_told(old):
                continue
            else:
                self._set(name, self._agreed(name, [old, value]))

    def _get(self, name: str) -> Value | None:
        words = self.arrays.get(name)
        return tuple(words) if words is not None else self.variables.get(name)

    def _set(self, name: str, value: Value | None) -> None:
        if self.frames:
            self.frames[-1].before.setdefault(name, self._get(name))
        self._put(name, value)

    def _put(self, name: str, value: Value | None) -> None:
        if name in self.exported or self.all_exported:
            self.shown = None
        self.variables.pop(name, None)
        self.arrays.pop(name, None)
        if isinstance(value, Quote):
            self.variables[name] = value
        elif value is not None:
            self.arrays[name] = value

    def _part_ends(self) -> None:
        """The end of a branch: what it changed is kept aside, and what was before holds for the next one."""
        frame = self.frames[-1]
        frame.parts.append((frame.holds, {name: self._get(name) for name in frame.before}))
        for name, before in frame.before.items():
            self._put(name, before)
        frame.before = {}

    def _close(self) -> None:
        if not self._in_pattern():
            self._part_ends()
        frame = self.frames.pop()
        may_run = []
        sure = frame.complete
        for runs, changed in frame.parts:
            if runs is not False:
                may_run.append(changed)
            if runs:  # those behind it do not
                sure = True
                break
        for name in dict.fromkeys(name for changed in may_run for name in changed):
            before = self._get(name)
            if name in frame.empty and _is_told(before):
                continue
            ends = [changed.get(name, before) for changed in may_run]
            self._set(name, self._agreed(name, ends if sure else [before, *ends]))

    def _agreed(self, name: str, values: Sequence[Value | None]) -> Value | None:
        """The one value among those that there may be; one that is open where they differ. What was never set is none."""
        told = [value for value in values if value is not None]
        if len({_text(value) for value in told}) < 2:
            return told[0] if told else None
        texts = [value for value in told if isinstance(value, Quote)]
        if len(texts) == len(told):
            # Flags that a branch adds leave those before them as they are.
            least = min(texts, key=lambda value: len(value.text))
            either = _either(name, texts[-1].spot)
            if least.text.strip() and all(
                value.text.startswith(least.text + " ") for value in texts if value is not least
            ):
                return quoted(least, Part(f"{least.text} {either.text}", (*least.unknown, either.text), (either.why,)))
            return either
        lists = [value for value in told if not isinstance(value, Quote)]
        if len(lists) < len(told):
            return None
        shortest = min(lists, key=len)
        if not shortest or any(_text(value[: len(shortest)]) != _text(shortest) for value in lists):
            return None
        return (*shortest, _either(f"{name}[@]", lists[-1][-1].spot))


class _Field:
    """A word that is being put together."""

    def __init__(self, spot: Spot) -> None:
        self.spot = spot
        self.parts: list[Part] = []
        self.started = False
        self.as_it_is: Quote | None = None

    def add(self, part: Part, *, started: bool) -> None:
        self.started = self.started or started
        if part.text or part.unknown:
            self.parts.append(part)

    def take(self, word: Quote) -> None:
        """A word of a list; where it stands alone it keeps its own place."""
        if not self.parts:
            self.as_it_is = word
        self.started = True
        self.parts.append(Part(word.text, word.unknown, (word.why,) if word.why else (), word.origin == "inferred"))

    def finished(self) -> list[Quote]:
        if not self.started:
            return []
        if self.as_it_is is not None and len(self.parts) == 1:
            return [self.as_it_is]
        if len(self.parts) == 1:
            return [quoted(Quote("", self.spot), self.parts[0])]
        text = "".join(part.text for part in self.parts)
        unknown = tuple(each for part in self.parts for each in part.unknown)
        why = tuple(each for part in self.parts for each in part.why)
        inferred = any(part.inferred for part in self.parts)
        return [quoted(Quote("", self.spot), Part(text, unknown, why, inferred))]


def _either(name: str, spot: Spot) -> Quote:
    """A variable that may hold one thing or another."""
    return Quote(f"${{{name}}}", spot, "unresolved", (f"${{{name}}}",), "set differently by branches of the script")


def _text(value: Value) -> str | tuple[str, ...]:
    return value.text if isinstance(value, Quote) else tuple(word.text for word in value)


def _is_told(value: Value | None) -> bool:
    return value is not None and bool(_text(value))


def _written_by(words: Sequence[Quote], target: str) -> str:
    """The file that a command writes what it is given to."""
    texts = [word.text for word in words]
    match texts:
        case ["cat"] | ["cat", "-"]:
            return target
        case ["sudo", "tee", path] | ["tee", path]:
            return path
        case _:
            return ""


# What stands around a command ------------------------------------------------------------------------------------


def _read(
    script: Quote, variables: Mapping[str, Quote], gpus: Quote | None, arguments: Sequence[Quote] | None, at: _At
) -> Iterator[ShellCommand]:
    for number, command in enumerate(_Script(script, variables, gpus, arguments, at.left).commands()):
        if number >= MOST_COMMANDS:
            return
        yield from _unwrap(command, gpus, at)


class _At(NamedTuple):
    """Where a command was found."""

    left: int = 0
    """Column of the later lines of the script that it stands in; 0 outside of scripts."""
    depth: int = 0
    """Shells around it."""


def _unwrap(command: ShellCommand, gpus: Quote | None, at: _At) -> Iterator[ShellCommand]:
    words, variables = list(command.words), dict(command.variables)
    while words:
        first = program_of(words[0])
        if first == "eval" and at.depth < MOST_SHELLS:
            joined = Quote(" ".join(word.text for word in words[1:]), (words[1] if len(words) > 1 else words[0]).spot)
            yield from _read(joined, variables, gpus, None, _At(at.left or joined.spot.column, at.depth + 1))
            return
        if first in SHELLS:
            place = behind_c(words)
            if place is None or at.depth >= MOST_SHELLS:
                break
            script = words[place]
            inner = _At(at.left or script.spot.column, at.depth + 1)
            yield from _read(script, variables, gpus, words[place + 2 :], inner)
            return
        if first == "env":
            rest = behind_env(words[1:], variables)
        elif first in PREFIXES:
            rest = words[1:]
            while rest and rest[0].text.startswith("-"):
                del rest[: 2 if rest[0].text == "-a" else 1]
        elif first in WRAPPERS or (first in CONTAINERS and any(word.text == "exec" for word in words[1:3])):
            rest = behind_wrapper(words)
        else:
            break
        if not rest:
            break
        words = rest
    if words:
        same = len(words) == len(command.words)
        yield command if same else ShellCommand(tuple(words), variables, command.files)
