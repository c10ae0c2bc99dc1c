"""One deployment with everything that holds for it: the file's words, comments, policy and options, joined.

Of several that state one thing the nearest to the engine counts: a `# moeplan:` comment, then the file, then the command
line of moeplan, then the policy. Everything that stays open is named with a way to give it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, Directive, FileRead, Quote, Spot
from moeplan.core.deployment import Origin
from moeplan.core.errors import InputError
from moeplan.core.policy import Policy, Stead, Terms
from moeplan.core.units import parse_count
from moeplan.engines import flags_of
from moeplan.engines.command_line import Owner, owners

ENGINE_VARIABLES = ("VLLM_", "SGLANG_", "SGL_", "TRTLLM_", "TRT_LLM_", "TLLM_", "LLAMA_ARG_", "GGML_")
"""Beginnings of names of variables that an engine may read; a pod's others say nothing about memory. Which cards are visible
was read with the deployment."""
NOT_WEIGHED = ("--kv-transfer-config", "--lmcache-config-file", "--flexkv-config-file")
"""Flags whose values are read and change no figure of moeplan's: where one is open, as much is known as where it is not."""
NONE_FROM_COMMAND = ("model", "revision")
"""What is taken out of the command, because it is traced to a model on its own."""
FORMAT_WORDS = (
    "fp8", "fp4", "nvfp4", "mxfp4", "mxfp8", "awq", "gptq", "int4", "int8", "w4a16", "w8a8", "w4a8", "gguf", "bnb", "4bit", "8bit",
)  # fmt: skip
"""Words in the name of a folder that tell of its weights' format."""


MOST_SHOWN = 80
"""Characters of an open value in a message."""
SERVING = ("vllm", "sglang", "trtllm", "llamacpp")
"""Engines that are deployed as servers."""
LOAD = ("context", "concurrency")
"""The load that is expected, as a comment may state it, too."""


class Known(NamedTuple):
    """A value, and who said it."""

    text: str
    origin: Origin
    where: str
    """`deploy.yaml:34`, `policy`, `--gpu`."""
    spot: Spot | None = None


class Missing(NamedTuple):
    """Something that must be known and is not."""

    what: str
    """`model`, `gpu`, `engine`, or the flag whose value is open."""
    told: str
    hint: str
    spot: Spot


class Subject(NamedTuple):
    """What is asked of one deployment."""

    file: str
    deployed: Deployed
    terms: Terms
    engine: Known | None
    engine_version: Known | None
    model: Known | None
    revision: Known | None
    gpu: Known | None
    """Name of a hardware profile, as it is found by."""
    variables: tuple[str, ...]
    """The engine's environment, as `NAME=value`."""
    words: tuple[str, ...]
    """The engine's own command line, without program, model and revision."""
    spots: Mapping[str, Spot]
    """Where each flag stands: by what it sets (`context_tokens`) and by its canonical name (`--block-size`)."""
    missing: tuple[Missing, ...]
    left_out: tuple[Missing, ...] = ()
    """Values that are open and that no figure depends on."""

    @property
    def gpus_per_engine(self) -> int | None:
        """GPUs that the file asks for, for one engine."""
        return self.deployed.gang.gpus_per_engine

    def spot(self, *names: str) -> Spot:
        """Where the first of these stands that is stated; else where the deployment begins."""
        return next((self.spots[name] for name in names if name in self.spots), self.deployed.spot)


class Options(NamedTuple):
    """What the command line of moeplan says for all deployments."""

    gpu: str | None = None
    engine: str | None = None
    engine_version: str | None = None


def subject_of(file: FileRead, deployed: Deployed, policy: Policy, options: Options, path: str) -> Subject:
    """Join what is known of one deployment; `path` is its file relative to the policy's folder."""
    terms = policy.terms_of(path, deployed.name)
    comments = _settings(file, deployed)
    load = {name: comments[name].text for name in LOAD if name in comments and is_count(comments[name].text)}
    stead = terms.stead._replace(**load)
    terms = terms._replace(stead=stead)
    said = _known(comments, "engine")
    engine = (said if said is not None and said.text in SERVING else None) or (
        Known(deployed.engine, "stated", _where(file, deployed.spot), deployed.spot)
        if deployed.engine is not None
        else _in_stead("engine", options.engine, stead.engine)
    )
    # The image's tag is no version of an engine that is not the image's.
    same = engine is None or engine.text == deployed.engine
    version = _known(comments, "engine_version") or (_quoted(file, deployed.engine_version) if same else None)
    version = version or _in_stead("engine-version", options.engine_version, stead.engine_version)
    command = tuple(deployed.command)
    parts = _owners(engine.text if engine else None, [quote.text for quote in command])
    # Flags of an engine whose name is not known may still name the model, in the words that engines share.
    sharing = (
        [parts] if engine is not None else [_owners(each, [quote.text for quote in command]) for each in SERVING[:2]]
    )
    named = next((found for each in sharing if (found := _values(command, each, "model"))), [])
    pinned = next((found for each in sharing if (found := _values(command, each, "revision"))), [])
    model, revision, missing = _model(file, deployed, policy, comments, stead, named, pinned)
    gpu, gpu_missing = _gpu(file, deployed, policy, comments, options, stead)
    missing += gpu_missing
    if engine is None:
        missing.append(_engine_missing(deployed))
    dropped = _not_weighed(command, parts)
    open_words = [pair for place, pair in enumerate(zip(command, parts, strict=True)) if place not in dropped]
    missing += _unknown_words(open_words)
    missing += _unknown_variables(deployed, engine.text if engine else None)
    return Subject(
        file=file.path,
        deployed=deployed,
        terms=terms,
        engine=engine,
        engine_version=version,
        model=model,
        revision=revision,
        gpu=gpu,
        variables=tuple(_variables(deployed)),
        words=tuple(
            quote.text
            for quote, part in open_words
            if part.field not in NONE_FROM_COMMAND and part.part not in ("program", "variable")
        ),
        spots=_spots(deployed, command, parts),
        missing=tuple(missing),
        left_out=tuple(_unknown_words([(command[place], parts[place]) for place in sorted(dropped)])),
    )


def _owners(engine: str | None, words: Sequence[str]) -> tuple[Owner, ...]:
    return owners(flags_of(engine) if engine is not None else (), words)


def _values(command: Sequence[Quote], parts: Sequence[Owner], field: str) -> list[Quote]:
    """The values behind the flags of one field, each where it stands."""
    found = []
    for quote, part in zip(command, parts, strict=True):
        if part.field != field:
            continue
        if part.part in ("model", "value"):
            found.append(quote)
        elif part.part == "flag" and "=" in quote.text:
            found.append(quote._replace(text=quote.text.partition("=")[2]))
    return found


def _settings(file: FileRead, deployed: Deployed) -> dict[str, Known]:
    """What comments and annotations state for this deployment; the nearest counts."""
    found: dict[str, Known] = {}
    for directive in directives_for(file, deployed):
        for name, value in directive.settings.items():
            found[name] = Known(value, "stated", _where(file, directive.spot), directive.spot)
    for name, quote in deployed.annotations.items():
        key = name.removeprefix("moeplan/").replace("-", "_")
        if key != "ignore":
            found[key] = Known(quote.text, "stated", _where(file, quote.spot), quote.spot)
    return found


def directives_for(file: FileRead, deployed: Deployed) -> Iterator[Directive]:
    """Comments that are about one deployment: those of the whole file, then those of its document, in their order.

    One above the document, or in it before the first of its deployments, is about all of them; the others are about the
    deployment that they stand above or in, up to where the next one begins.
    """
    beside = sorted({each.spot.line for each in file.deployments if each.within == deployed.within})
    end = next((line for line in beside if line > deployed.spot.line), deployed.within.last + 1)
    yield from (directive for directive in file.directives if directive.whole_file)
    for directive in file.directives:
        line = directive.about_line
        shared = line == deployed.within.first or line < beside[0]
        if not directive.whole_file and line in deployed.within and (shared or deployed.spot.line <= line < end):
            yield directive


def _model(
    file: FileRead,
    deployed: Deployed,
    policy: Policy,
    comments: Mapping[str, Known],
    stead: Stead,
    named: Sequence[Quote],
    pinned: Sequence[Quote],
) -> tuple[Known | None, Known | None, list[Missing]]:
    """The model and its revision, and what is missing."""
    revision = _known(comments, "revision") or _quoted(file, deployed.revision)
    revision = revision or (_quoted(file, pinned[-1]) if pinned else None)
    typed = [*named[-1:], *([deployed.model] if deployed.model is not None else [])]
    stated = _known(comments, "model")
    for quote in (*typed, *deployed.served_names):
        mapped = policy.models.get(quote.text)
        if stated is None and mapped is not None:
            stated = Known(mapped, "stated", f"{policy.path}: models", quote.spot)
    if stated is None and deployed.model is not None and deployed.model.known:
        stated = _quoted(file, deployed.model)
    if stated is None and named and named[-1].known and not is_container_path(named[-1].text):
        stated = _quoted(file, named[-1])
    if stated is None:
        stated = _in_stead("model", None, stead.model)
    if stated is not None:
        at_revision = stated.text.partition("@")[2] if "://" not in stated.text else ""
        if at_revision and revision is None:
            revision = stated._replace(text=at_revision)
        plain = stated.text.partition("@")[0] if at_revision else stated.text
        return stated._replace(text=plain), revision, []
    served = next((quote for quote in deployed.served_names if quote.known and quote.text.count("/") == 1), None)
    path = named[-1].text if named and named[-1].known else None
    if served is not None and not (path is not None and _formats(path) - _formats(served.text)):
        return Known(served.text, "inferred", _where(file, served.spot), served.spot), revision, []
    return None, revision, [_model_missing(deployed, typed, served)]


def _model_missing(deployed: Deployed, typed: Sequence[Quote], served: Quote | None) -> Missing:
    ways = "say it with a comment `# moeplan: model=org/name`"
    if not typed:
        return Missing("model", "the file names no model", f"{ways}, or name it in the file", deployed.spot)
    quote = typed[-1]
    if not quote.known:
        told = f"the model is {quote.text}, and {', '.join(quote.unknown)} is not known from the file"
        name = quote.unknown[0].strip("${}()").partition(":")[0]
        return Missing("model", told, f"say --set {name}=org/name, or {ways}", quote.spot)
    told = f"{quote.text} is a path inside the container, which names no model on the Hub"
    if served is not None:
        told = f"{told}; the served name {served.text} lacks the format that the path tells of"
    return Missing("model", told, f"map it in the policy (models: {{{quote.text}: org/name}}), or {ways}", quote.spot)


def is_container_path(text: str) -> bool:
    """True for a path or a store: what it means where moeplan runs says nothing about the container."""
    return text.startswith(("/", ".", "~")) or "://" in text or "\\" in text or text.count("/") > 1


def is_count(text: str) -> bool:
    """True for a number as the command line takes it: `16`, `32k`."""
    try:
        parse_count(text, "")
    except InputError:
        return False
    return True


def _formats(name: str) -> set[str]:
    lowered = name.lower()
    return {word for word in FORMAT_WORDS if word in lowered}


def _gpu(
    file: FileRead,
    deployed: Deployed,
    policy: Policy,
    comments: Mapping[str, Known],
    options: Options,
    stead: Stead,
) -> tuple[Known | None, list[Missing]]:
    stated = _known(comments, "gpu")
    if stated is None and deployed.gpu is not None and deployed.gpu.known:
        stated = _quoted(file, deployed.gpu)
    stated = stated or _in_stead("gpu", options.gpu, stead.gpu)
    if stated is not None:
        return stated._replace(text=policy.gpus.get(stated.text, stated.text)), []
    spot = deployed.gpu.spot if deployed.gpu is not None else deployed.spot
    if deployed.gang.gpus_per_pod is not None:
        spot = deployed.gang.gpus_per_pod.spot
    told = "the file does not say which GPU it runs on"
    if deployed.gpu is not None:
        told = f"the GPU is one of {', '.join(deployed.gpu.unknown)}" if deployed.gpu.unknown else told
    hint = "say --gpu h100-sxm, a comment `# moeplan: gpu=h100-sxm`, or `defaults: {gpu: h100-sxm}` in the policy"
    return None, [Missing("gpu", told, hint, spot)]


def _engine_missing(deployed: Deployed) -> Missing:
    told = "the file does not tell which engine it runs"
    return Missing("engine", told, "say it with a comment `# moeplan: engine=vllm`", deployed.spot)


def _not_weighed(command: Sequence[Quote], parts: Sequence[Owner]) -> set[int]:
    """The places of open values that no figure depends on, and of their flags."""
    found: set[int] = set()
    flag = 0
    for place, (quote, part) in enumerate(zip(command, parts, strict=True)):
        flag = place if part.part == "flag" else flag
        if not quote.known and part.name in NOT_WEIGHED:
            found |= {flag, place}
    return found


def _unknown_words(command: Sequence[tuple[Quote, Owner]]) -> list[Missing]:
    """Words with open parts that matter to memory."""
    found = []
    for quote, part in command:
        if quote.known or part.field in NONE_FROM_COMMAND or not part.matters:
            continue
        names = _listed(quote)
        about = part.name or "the command"
        told = f"{about}: {names} is not known from the file"
        name = _settable(quote, "NAME")
        hint = f"say --set {name}=VALUE, or `variables: {{{name}: VALUE}}` in the policy"
        found.append(Missing(about, told, hint, quote.spot))
    return found


def _unknown_variables(deployed: Deployed, engine: str | None) -> list[Missing]:
    """Variables with open parts that may matter to memory."""
    names = [
        name for name, quote in deployed.variables.items() if not quote.known and name.startswith(ENGINE_VARIABLES)
    ]
    parts = _owners(engine, [f"{name}=" for name in names])
    told = [name for name, part in zip(names, parts, strict=True) if part.matters]
    return [
        Missing(
            name,
            f"{name}: {_listed(deployed.variables[name])} is not known from the file",
            f"say --set {_settable(deployed.variables[name], name)}=VALUE",
            deployed.variables[name].spot,
        )
        for name in told
    ]


def _listed(quote: Quote) -> str:
    """What is open of a value, in one line: a here-document may be among it."""
    shown = (" ".join(each.split()) for each in quote.unknown)
    return ", ".join(each if len(each) <= MOST_SHOWN else f"{each[: MOST_SHOWN - 1]}…" for each in shown)


def _settable(quote: Quote, name: str) -> str:
    """The variable that would fill an open value; `name` where what is open is no variable (`$(hostname -I)`)."""
    bare = quote.unknown[0].strip("${}()").partition(":")[0]
    return bare if bare.isidentifier() else name


def _variables(deployed: Deployed) -> Iterator[str]:
    """The engine's environment in front of its command, as a shell takes it."""
    for name, quote in deployed.variables.items():
        if name.startswith(ENGINE_VARIABLES) and quote.known:
            yield f"{name}={quote.text}"


def _spots(deployed: Deployed, command: Sequence[Quote], parts: Sequence[Owner]) -> dict[str, Spot]:
    found: dict[str, Spot] = {}
    for quote, part in zip(command, parts, strict=True):
        for name in (part.name, part.field):
            if name:
                found[name] = quote.spot
    gang = deployed.gang
    for name, stated in (
        ("gpus", gang.gpus_per_pod), ("pods", gang.pods_per_engine), ("replicas", gang.replicas),
        ("image", deployed.image), ("gpu", deployed.gpu),
    ):  # fmt: skip
        if stated is not None:
            found[name] = stated.spot
    if deployed.model is not None:
        found.setdefault("model", deployed.model.spot)
    return found


def _known(comments: Mapping[str, Known], name: str) -> Known | None:
    return comments.get(name)


def _quoted(file: FileRead, quote: Quote | None) -> Known | None:
    if quote is None or not quote.known:
        return None
    return Known(quote.text, quote.origin, _where(file, quote.spot), quote.spot)


def _in_stead(name: str, option: str | None, stead: str | None) -> Known | None:
    """What is said for all deployments: by moeplan's own option, else by the policy."""
    if option is not None:
        return Known(option, "stated", f"--{name}")
    return None if stead is None else Known(stead, "default", "policy: defaults")


def _where(file: FileRead, spot: Spot) -> str:
    return f"{file.path}:{spot.line}"
