"""Variables in the words of a command, expanded where the file tells what they hold. Nothing is ever executed."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import PutIn, Quote, Spot

MOST_CHARACTERS = 65_536
"""A text that grows beyond this (`A=$A$A`) is left as it stands."""
MOST_SPAN = 16_384
"""Characters of one `$( )` or `${ }`."""
MOST_DEPTH = 12
"""Defaults inside of defaults."""
MOST_UNCLOSED = 32
"""Openings without an end after which a text is taken as it stands."""
MOST_WHY = 200

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER = re.compile(r"([!#]?)([A-Za-z_]\w*|[0-9]+|[@*#?$!-])(\[[^\]]*\])?(.*)", re.DOTALL | re.ASCII)
_OPERATOR = re.compile(r"(:?[-=?+]|##|#|%%|%|\^\^|,,)(.*)", re.DOTALL)
_KUBERNETES = re.compile(r"\$(?:\$|\(([^()\s]*)\))")
_KUBERNETES_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_SUBSTITUTED = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_SPECIAL = re.compile(r"[\\$`\"']")
_COMPOSE_SPECIAL = re.compile(r"\$")

# Ways to count the cards of a machine. `wc -l` counts lines, one for each.
_COUNTS_GPUS = tuple(
    re.compile(pattern)
    for pattern in (
        r"nvidia-smi (?:-L|--list-gpus)(?: 2> ?/dev/null)? ?\| ?wc (?:-l|--lines)(?: \| ?(?:xargs|tr -d ' '))?",
        r"nvidia-smi --query-gpu=\w+(?:,\w+)* --format=csv,noheader(?:,nounits)?(?: 2> ?/dev/null)? ?\| ?wc (?:-l|--lines)",
        r"nvidia-smi --format=csv,noheader --query-gpu=\w+(?:,\w+)*(?: 2> ?/dev/null)? ?\| ?wc (?:-l|--lines)",
        r"nvidia-smi --query-gpu=count --format=csv,noheader ?\| ?head (?:-n ?1|-1)",
        r"nvidia-smi -L ?\| ?grep -c (?:GPU|'\^GPU'|'GPU'|\"GPU\")",
        r"python3? -c ['\"]import torch; ?print\(torch\.cuda\.device_count\(\)\)['\"]",
        r"ls(?: -1)? /dev/nvidia(?:\[0-9\]\*|\?\*|\[0-9\]) ?\| ?wc -l",
    )
)


class Part(NamedTuple):
    """What an expansion stands for."""

    text: str
    unknown: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    inferred: bool = False
    put_in: tuple[PutIn, ...] = ()
    """What was put into a whole text."""


def expand_kubernetes(quote: Quote, variables: Mapping[str, Quote]) -> Quote:
    """`$(VAR)` as the kubelet expands it in `command`, `args` and `env`; `$$(VAR)` stays `$(VAR)`.

    A variable that the file does not tell is named in the result's `unknown`, and the origin is `unresolved`. What cannot be
    a variable (`$(nvidia-smi -L)`) is left to the shell that may come behind.
    """
    if "$" not in quote.text:
        return quote
    whole = _Whole(quote.text)
    for found in _KUBERNETES.finditer(quote.text):
        name = found.group(1)
        if name is None:
            whole.put(found.span(), Part("$"))
        elif name in variables:
            whole.put(found.span(), _of_variable(name, variables[name]))
        elif _KUBERNETES_NAME.fullmatch(name):
            whole.put(found.span(), _open(found.group()))
        if whole.length > MOST_CHARACTERS + len(quote.text):
            return quoted(quote, Part(quote.text, (quote.text[:MOST_WHY],)))
    return _with_parts(quote, whole.part())


def expand_substituted(quote: Quote, variables: Mapping[str, Quote]) -> Quote:
    """`${VAR}` in a word that no shell sees: envsubst, Flux or nobody replaces it before the file is applied.

    Filled with what is known from outside (`--set`); else it is open.
    """
    if "${" not in quote.text or not quote.known:
        return quote
    whole = _Whole(quote.text)
    for found in _SUBSTITUTED.finditer(quote.text):
        known = variables.get(found.group(1))
        whole.put(found.span(), _open(found.group()) if known is None else _of_variable(found.group(1), known))
    return _with_parts(quote, whole.part())


def expand_shell(quote: Quote, variables: Mapping[str, Quote], gpus: Quote | None = None) -> Quote:
    """`$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR-}`, `${VAR:=x}`, `$((A * B))` as a shell expands them inside double quotes.

    `gpus` is what `$(nvidia-smi -L | wc -l)` gives: the GPUs of the pod. Every other `$(command)` is unknown.
    """
    if not _SPECIAL.search(quote.text):
        return quote
    return quoted(quote, Expander(dict(variables), gpus).whole(quote.text))


def expand_compose(quote: Quote, variables: Mapping[str, Quote]) -> Quote:
    """`${VAR:-default}`, `$VAR`, `$$` as docker compose reads them; unset without default is unknown."""
    if "$" not in quote.text:
        return quote
    return _with_parts(quote, Expander(dict(variables), compose=True).whole(quote.text))


def written_place(put_in: Sequence[PutIn], place: int) -> int:
    """Where a place of a text is in the text as the file has it; inside of what was put in, where that begins."""
    number = bisect_left(put_in, (place,))
    if not number:
        return place
    before = put_in[number - 1]
    return before.first if place < before.end else before.last + place - before.end


def written(quote: Quote) -> str:
    """The text with as many characters as the file has: other signs stand for what was put in."""
    pieces: list[str] = []
    place = 0
    for start, end, first, last in quote.put_in:
        pieces += (quote.text[place:start], "$" * (last - first))
        place = end
    return "".join((*pieces, quote.text[place:]))


def _with_parts(quote: Quote, part: Part) -> Quote:
    """As `quoted`, knowing what was put in; where all of it was already, it stays so."""
    all_of_it = tuple(each._replace(end=len(part.text)) for each in quote.put_in[:1])
    return quoted(quote, part)._replace(put_in=all_of_it or part.put_in)


class _Whole:
    """A text with parts of it replaced, one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        """Up to where the text is done."""
        self.length = 0
        """Of what is made of it."""
        self.pieces: list[str] = []
        self.put_in: list[PutIn] = []
        self.unknown: list[str] = []
        self.why: list[str] = []
        self.inferred = False

    def plain(self, text: str, end: int) -> None:
        """Go on up to `end`, where the made text has this one."""
        self.pieces.append(text)
        self.length += len(text)
        self.place = end

    def put(self, span: tuple[int, int], part: Part) -> None:
        """Put a part in the place of the characters of `span`."""
        start, end = span
        self.plain(self.text[self.place : start], end)
        if part.text != self.text[start:end]:
            self.put_in.append(PutIn(self.length, self.length + len(part.text), start, end))
        self.plain(part.text, end)
        self.unknown += part.unknown
        self.why += part.why
        self.inferred = self.inferred or part.inferred

    def part(self) -> Part:
        """All of it."""
        self.plain(self.text[self.place :], len(self.text))
        return Part("".join(self.pieces), _once(self.unknown), _once(self.why), self.inferred, tuple(self.put_in))


def quoted(quote: Quote, part: Part) -> Quote:
    """`quote` with what it stands for; what was unknown of it stays so while its text holds it."""
    unknown = _once((*(each for each in quote.unknown if each in part.text), *part.unknown))
    why = ", ".join(_once(each for each in (quote.why, *part.why) if each))
    origin = quote.origin
    if unknown:
        origin = "unresolved"
    elif part.inferred:
        origin = "inferred"
    elif origin == "unresolved":
        origin = "stated"
    return Quote(part.text, quote.spot, origin, unknown, why if len(why) <= MOST_WHY else why[:MOST_WHY] + "…")


class Expander:
    """Expands one `$` after another, as a POSIX shell does, or docker compose."""

    def __init__(
        self,
        variables: MutableMapping[str, Quote],
        gpus: Quote | None = None,
        arrays: Mapping[str, Sequence[Quote]] | None = None,
        *,
        compose: bool = False,
    ) -> None:
        self.variables = variables
        """Those that are told; `${A:=1}` adds to them."""
        self.gpus = gpus
        self.arrays = {} if arrays is None else arrays
        """Lists of bash; the positional parameters are the one named `@`."""
        self.compose = compose
        self.spot = Spot(1)
        """Where the text stands that is being expanded."""
        self.num_unclosed = 0

    def whole(self, text: str, depth: int = 0, *, quotes: bool = True) -> Part:
        """A text as it is expanded between double quotes; with `quotes` False the quotes in it are taken away."""
        whole = _Whole(text)
        special = _COMPOSE_SPECIAL if self.compose else _SPECIAL
        while (found := special.search(text, whole.place)) is not None:
            start = found.start()
            sign = text[start]
            if sign in "\"'":
                whole.put((start, start + 1), Part(sign if quotes else ""))
            elif sign == "\\":
                after = text[start + 1 : start + 2]
                kept = after if after in ("$", "`", '"', "\\") else "" if after == "\n" else sign + after
                whole.put((start, start + 2), Part(kept))
            else:
                part, end = self.one(text, start, depth)
                whole.put((start, end), part)
                if whole.length > MOST_CHARACTERS + len(text):
                    return Part(text, (text[:MOST_WHY],))
        return whole.part()

    def one(self, text: str, start: int, depth: int = 0) -> tuple[Part, int]:
        """The expansion that begins with the sign at `start`, and where the text goes on behind it."""
        end = self.end(text, start)
        if end < 0:  # never closed: a shell would refuse the text
            return Part(text[start]), start + 1
        span = text[start:end]
        if len(span) == 1:
            return Part(span), end
        if depth > MOST_DEPTH:
            return _open(span), end
        if self.compose and span == "$$":
            return Part("$"), end
        if span[0] == "`" or span.startswith("$("):
            if self.compose:
                return Part(span), end
            return self._command(span, depth), end
        if span.startswith("${"):
            return self._parameter(span, depth), end
        value = self._value(span[1:])
        return (_open(span) if value is None else _of_variable(span[1:], value)), end

    def end(self, text: str, start: int) -> int:
        """Where the expansion at `start` ends; -1 where it is never closed. A `$` that is only a `$` ends behind itself."""
        sign, after = text[start], text[start + 1 : start + 2]
        if sign == "$" and after not in ("{", "("):
            name = _NAME.match(text, start + 1)
            if name:
                return name.end()
            return start + 2 if after and (after in "@*#?$!-" or after in "0123456789") else start + 1
        if sign == "$" and after == "(" and self.compose:
            return start + 1
        if self.num_unclosed >= MOST_UNCLOSED:
            return -1
        end = _closed(text, start)
        self.num_unclosed += end < 0
        return end

    def _value(self, name: str) -> Quote | None:
        if name in self.variables:
            return self.variables[name]
        if name.isdecimal() and "@" in self.arrays and 0 < int(name[:6]) <= len(self.arrays["@"]):
            return self.arrays["@"][int(name[:6]) - 1]
        if name in ("@", "*") and "@" in self.arrays:
            return _joined(self.arrays["@"])
        return None

    def _parameter(self, span: str, depth: int) -> Part:
        """`${...}`."""
        found = _PARAMETER.fullmatch(span[2:-1])
        if found is None:
            return _open(span)
        before, name, place, rest = found.groups()
        if before:
            return _open(span)
        value = self._value(name) if place is None else self._element(name, place)
        if not rest:
            return _open(span) if value is None else _of_variable(name, value)
        changed = _OPERATOR.fullmatch(rest)
        if changed is None:
            return _open(span)
        operator, word = changed.groups()
        absent = value is None or (operator.startswith(":") and not value.text)
        match operator.lstrip(":"):
            case "-" | "=":
                if not absent and value is not None:
                    return _of_variable(name, value)
                part = self.whole(word, depth + 1, quotes=self.compose)
                part = part._replace(why=(f"default of {name}", *part.why))
                if operator.endswith("=") and _NAME.fullmatch(name):
                    self.variables[name] = quoted(Quote(word, self.spot), part)
                return part
            case "+":
                return Part("") if absent else self.whole(word, depth + 1, quotes=self.compose)
            case "?":
                return _open(span) if absent or value is None else _of_variable(name, value)
            case _:
                return _open(span) if value is None or self.compose else self._cut(name, value, operator, word, depth)

    def _cut(self, name: str, value: Quote, operator: str, word: str, depth: int) -> Part:
        """`${MODEL##*/}` and the like: a value without its beginning or its end."""
        whole = _of_variable(name, value)
        if operator in ("^^", ",,"):
            return (
                whole if word else whole._replace(text=value.text.upper() if operator == "^^" else value.text.lower())
            )
        pattern = self.whole(word, depth + 1, quotes=False)
        text = value.text
        if pattern.unknown or not value.known or len(text) > 1000 or len(pattern.text) > 100:
            return _open(f"${{{name}{operator}{word}}}")
        import fnmatch

        fits = re.compile(fnmatch.translate(pattern.text))
        lengths = range(len(text) + 1) if len(operator) == 1 else range(len(text), -1, -1)
        for length in lengths:
            if operator[0] == "#" and fits.fullmatch(text[:length]):
                return whole._replace(text=text[length:])
            if operator[0] == "%" and fits.fullmatch(text[len(text) - length :]):
                return whole._replace(text=text[: len(text) - length])
        return whole

    def _element(self, name: str, place: str) -> Quote | None:
        words = self.arrays.get(name)
        if words is None:
            return None
        if place in ("[@]", "[*]"):
            return _joined(words)
        number = place[1:-1]
        return words[int(number)] if number.isdecimal() and int(number[:6]) < len(words) else None

    def _command(self, span: str, depth: int) -> Part:
        """`$(...)` and backticks: arithmetic, and the number of GPUs."""
        body = span[1:-1] if span[0] == "`" else span[2:-1]
        if span.startswith("$((") and span.endswith("))"):
            return self._arithmetic(span, depth)
        words = " ".join(body.split())
        if self.gpus is not None and any(each.fullmatch(words) for each in _COUNTS_GPUS):
            return Part(self.gpus.text, self.gpus.unknown, ("the number of GPUs",), inferred=True)
        return _open(span)

    def _arithmetic(self, span: str, depth: int) -> Part:
        part = self.whole(span[3:-2], depth + 1)
        names = _NAME.findall(part.text) if not part.unknown else []
        text = part.text
        why = list(part.why)
        for name in dict.fromkeys(names):
            value = self._value(name)
            if value is None or not value.known:
                return _open(span)
            text = re.sub(rf"\b{name}\b", f"({value.text or '0'})", text)
            why.append(f"variable {name}")
            if len(text) > MOST_WHY * 4:
                return _open(span)
        result = None if part.unknown else arithmetic(text)
        return _open(span) if result is None else Part(str(result), (), _once(why), inferred=True)


_WEIGHTS = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "minus": 3, "plus": 3}
_TOKENS = re.compile(r"\s*(?:(0|[1-9][0-9]{0,14})(?![\w.])|([-+*/%()]))")
MOST_RESULT = 10**15


def arithmetic(text: str) -> int | None:
    """Whole numbers with `+ - * / %` and parentheses, as a shell reckons (division drops the rest); None for all else.

    >>> arithmetic("2 * (3 + 4) / 4")
    3
    """
    values: list[int] = []
    waiting: list[str] = []
    place = 0
    text = text.strip()
    if len(text) > MOST_CHARACTERS:
        return None
    value_next = True
    while place < len(text):
        found = _TOKENS.match(text, place)
        if found is None:
            return None
        place = found.end()
        number, sign = found.groups()
        if number:
            if not value_next:
                return None
            values.append(int(number))
            value_next = False
        elif sign == "(":
            if not value_next:
                return None
            waiting.append(sign)
        elif sign == ")":
            if value_next:
                return None
            while waiting and waiting[-1] != "(":
                if not _reckon(values, waiting.pop()):
                    return None
            if not waiting:
                return None
            waiting.pop()
        elif value_next:
            if sign not in "+-":
                return None
            waiting.append("minus" if sign == "-" else "plus")
        else:
            while waiting and waiting[-1] != "(" and _WEIGHTS[waiting[-1]] >= _WEIGHTS[sign]:
                if not _reckon(values, waiting.pop()):
                    return None
            waiting.append(sign)
            value_next = True
    if value_next:
        return None
    while waiting:
        if waiting[-1] == "(" or not _reckon(values, waiting.pop()):
            return None
    return values[0]


def _reckon(values: list[int], sign: str) -> bool:
    """One step on the stack; False where there is no result."""
    right = values.pop()
    if sign in ("minus", "plus"):
        values.append(-right if sign == "minus" else right)
        return True
    left = values.pop()
    match sign:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            result = left * right
        case _:
            if right == 0:
                return False
            quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
            result = quotient if sign == "/" else left - quotient * right
    values.append(result)
    return abs(result) <= MOST_RESULT


def _closed(text: str, start: int) -> int:
    """Where the `${`, `$(` or backtick at `start` is closed; -1 where it is not."""
    last = min(len(text), start + MOST_SPAN)
    closers = ["`"] if text[start] == "`" else ["}" if text[start + 1] == "{" else ")"]
    place = start + (1 if text[start] == "`" else 2)
    while place < last:
        sign = text[place]
        inside = closers[-1]
        if sign == "\\":
            place += 2
            continue
        if sign == inside:
            closers.pop()
            if not closers:
                return place + 1
        elif sign == "$" and text[place + 1 : place + 2] in ("{", "("):
            closers.append("}" if text[place + 1] == "{" else ")")
            place += 1
        elif sign == '"' or (sign == "`" and "`" not in closers):
            closers.append(sign)
        elif sign == "'" and inside == ")":
            place = text.find("'", place + 1, last)
            if place < 0:
                return -1
        elif sign == "(" and inside == ")":
            closers.append(")")
        place += 1
    return -1


def _open(span: str) -> Part:
    """An expansion that is not to be known stays as it stands."""
    return Part(span, (span,))


def _of_variable(name: str, value: Quote) -> Part:
    return Part(value.text, value.unknown, (f"variable {name}",), value.origin == "inferred")


def _joined(words: Sequence[Quote]) -> Quote:
    text = " ".join(word.text for word in words)
    unknown = tuple(each for word in words for each in word.unknown)
    return Quote(text, words[0].spot if words else Spot(1), "unresolved" if unknown else "stated", unknown)


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
