"""What is asked, read to the end: model, format, engine, hardware and limits as values that can be judged."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.deployment import Deployment, Origin, Serving
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.kv_cache import DTYPE_BITS, CacheRow, CacheRules, cache_rows
from moeplan.core.layout import AskedLayout, Layout
from moeplan.core.ledger import Basis, Line
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import BY_DTYPE, Holding, Quantisation, holdings
from moeplan.core.units import parse_count
from moeplan.engines import Engine, load
from moeplan.estimate.learned import learned_lines
from moeplan.sources.families.blocks import DTYPES
from moeplan.sources.loaded import LoadedModel
from moeplan.sources.quantisation import what_if

if TYPE_CHECKING:  # only checkpoints whose headers are read pay for matching
    from moeplan.core.matching import Matched

DEFAULT_CONTEXT_TOKENS = 32_768
BY_NAME = {plain.name: plain for plain in BY_DTYPE.values()}
KV_DTYPES = {
    "auto": None,
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "f32": "float32",
    "half": "float16",
    "fp32": "float32",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "fp8_ds_mla": "fp8",
}


class Question(NamedTuple):
    """One choice of model, format, hardware, engine, layout and limits: what `judge` answers."""

    serving: Serving
    engine: Engine
    rows: tuple[CacheRow, ...]
    """What all layers keep for one sequence."""
    matched: "Matched | None"
    """The checkpoint's tensors by the inventory, where headers were read and their formats are the question."""
    beyond: tuple[Holding, ...]
    """What the checkpoint holds and the config does not describe: it stays whatever formats are asked for."""
    held: tuple[Holding, ...]
    """Weights as the engine keeps them; what it does not load is left out."""
    as_stored: bool
    """True where `held` is what the headers say, to the byte."""
    doubts: tuple[Remark, ...]
    """What keeps a verdict from being certain."""
    rules: CacheRules
    asked_layout: AskedLayout
    num_devices: int | None
    """GPUs that were named; None where the layout says how many."""
    version_origin: Origin
    drafts: bool
    """True where the model's own draft layers (MTP) are loaded."""
    learned: tuple[Line, ...]
    """What an engine's log on this machine showed beyond the estimate."""

    @property
    def spec(self) -> ModelSpec:
        """The model in the dtype that the engine runs it in."""
        return self.serving.spec

    @property
    def deployment(self) -> Deployment:
        """Engine, limits and layout."""
        return self.serving.deployment

    def at(self, deployment: Deployment) -> "Question":
        """The same with other limits."""
        return self._replace(serving=self.serving._replace(deployment=deployment))

    def on(self, num_devices: int, asked: AskedLayout | None = None) -> "Question":
        """The same on another number of GPUs, in the layout that the engine would then run."""
        layout = self.asked_layout if asked is None else asked
        used = find_layout(self.engine, self.serving, layout, num_devices)
        other = self.at(self.deployment._replace(layout=used))
        return other._replace(asked_layout=layout, num_devices=num_devices, learned=learned_lines(other.serving))


def read_formats(
    loaded: LoadedModel,
    engine: str,
    hardware: Hardware | None,
    dtype: str | None,
    quant: str | None,
    notes: list[Remark],
) -> tuple[ModelSpec, Quantisation, Quantisation]:
    """The model in the dtype that the engine runs it in, and its formats: as resident, and as the checkpoint stores them.

    `dtype` and `quant` are what the user asked for. Raises InputError for unknown names.
    """
    spec = loaded.spec
    base = BY_DTYPE[spec.dtype]
    checkpoint = loaded.quantisation or Quantisation(base.name, base)
    if dtype is not None and dtype not in DTYPES:
        known = ", ".join(dict.fromkeys(DTYPES.values()))
        raise InputError(f"unknown dtype {dtype!r}", hint=f"known dtypes: {known}")
    if dtype is not None:
        spec = spec._replace(dtype=DTYPES[dtype], dtype_stated=True)
    else:
        # Each tensor of a GGUF file states its own type.
        untold = not spec.dtype_stated and loaded.source_kind != "gguf"
        if untold and not any(note.code == "dtype-unknown" for note in notes):
            notes.append(Remark("dtype-assumed", "info", "the config states no dtype; weights are taken as bfloat16"))
        runs_in = load(engine).loaded_dtype(spec.dtype, hardware.compute_capability if hardware else None)
        if runs_in != spec.dtype:
            notes.append(Remark("dtype-of-engine", "info", f"{engine} loads {spec.dtype} weights as {runs_in}"))
            spec = spec._replace(dtype=runs_in)
    if quant is not None:
        resident = what_if(quant, spec)
    else:
        resident = checkpoint
        if BY_DTYPE[spec.dtype] != base:
            resident = checkpoint._replace(base=BY_DTYPE[spec.dtype])
            if loaded.quantisation is None:
                resident = resident._replace(name=resident.base.name)
    notes += resident.remarks
    return spec, resident, checkpoint


def _is_gguf(by_format: Mapping[str, int]) -> bool:
    # Its names do not tell which weight a tensor is, so shares of ranks are by size.
    return any(name.startswith("gguf ") for name in by_format)


def base_basis(question: Question, by_format: Mapping[str, int]) -> Basis:
    """`exact` from headers; `assumed` where most of these bytes are in the plain dtype and no config stated that."""
    if question.matched is not None:
        whole = question.deployment.layout.num_gpus == 1 or not _is_gguf(by_format)
        return "exact" if question.as_stored and whole else "derived"
    main = max(by_format, key=lambda name: by_format[name], default=None)
    unknown = not question.spec.dtype_stated and question.serving.quantisation.base.name == main
    return "assumed" if unknown else "derived"


def read_limits(
    spec: ModelSpec,
    context: int | str | None,
    concurrency: int | str | None,
    encoder_tokens: int | str | None,
    notes: list[Remark],
    *,
    strict: bool,
    commanded: str | None = None,
) -> tuple[Deployment, dict[str, Origin]]:
    """Context, concurrency and encoder length as numbers, with their origins; remarks on how they were read.

    `commanded` names the engine whose command line was given: without a length it takes the model's own.
    """
    context_tokens, origin = read_context(spec, context, notes, strict=strict, commanded=commanded)
    values = {"context": context_tokens}
    origins: dict[str, Origin] = {"context_tokens": origin}
    for name, value, default in (("concurrency", concurrency, 1), ("encoder-tokens", encoder_tokens, 0)):
        field = name.replace("-", "_")
        origins[field] = "default" if value is None else "stated"
        values[name] = default if value is None else read_count(value, f"--{name}", notes)
    if spec.is_encoder_decoder and encoder_tokens is None:
        values["encoder-tokens"] = values["context"]
        notes.append(
            Remark(
                "encoder-default",
                "info",
                f"encoder length {values['context']:,} tokens: as the context; say --encoder-tokens",
            )
        )
    if not spec.is_encoder_decoder and encoder_tokens is not None:
        notes.append(
            Remark("encoder-unused", "warning", "--encoder-tokens: this model has no encoder; it changes nothing")
        )
    follows = spec.is_encoder_decoder and encoder_tokens is None
    return Deployment("", values["context"], values["concurrency"], values["encoder-tokens"], follows), origins


def read_count(value: int | str, option: str, notes: list[Remark]) -> int:
    """A number of tokens or sequences, with a remark on how its suffix was read. Raises InputError for anything else."""
    count = parse_count(str(value), option)
    if count.reading:
        told = f"{option} {count.reading} (k is 1000, K is 1024, as engines read them)"
        notes.append(Remark("count-reading", "info", told))
    return count.value


def read_context(
    spec: ModelSpec,
    context: int | str | None,
    notes: list[Remark],
    *,
    strict: bool,
    commanded: str | None = None,
    least_tokens: int = 0,
) -> tuple[int, Origin]:
    """The context as stated, or the default with a remark; a default is `least_tokens` at least.

    Raises InputError for one beyond the model's maximum, where that is `strict`.
    """
    most = spec.max_context_tokens
    if context is not None:
        tokens = read_count(context, "--context", notes)
    elif commanded is not None and most is not None:
        tokens = most
        told = f"the command states no length, so {commanded} takes the model's own {most:,} tokens"
        notes.append(Remark("context-of-engine", "warning", told))
    else:
        usual = min(DEFAULT_CONTEXT_TOKENS, most or DEFAULT_CONTEXT_TOKENS)
        limit = "the model's maximum" if most and most <= DEFAULT_CONTEXT_TOKENS else "moeplan's default"
        tokens = max(usual, least_tokens)
        limit = "a prompt and its answer" if tokens > usual else limit
        told = f"context {tokens:,} tokens: {limit}; say --context for another"
        notes.append(Remark("context-default", "info", told))
    if most is not None and tokens > most:
        message = f"context {tokens:,} is beyond the model's maximum of {most:,} tokens"
        if strict:
            raise InputError(message, hint=f"use --context {most}, or leave out --strict")
        notes.append(Remark("context-beyond-maximum", "warning", message))
    return tokens, "default" if context is None else "stated"


def read_kv_dtype(asked: str | None) -> str | None:
    """The cache dtype asked for, by its one name; None for the engine's `auto`. Raises InputError for unknown ones."""
    if asked is None:
        return None
    if asked in KV_DTYPES:
        return KV_DTYPES[asked]
    if asked not in DTYPE_BITS:
        known = ", ".join(["auto", *DTYPE_BITS])
        raise InputError(f"unknown cache dtype {asked!r}", hint=f"known cache dtypes: {known}")
    return asked


def find_layout(engine: Engine, serving: Serving, asked: AskedLayout, num_devices: int | None) -> Layout:
    """The layout that the engine would run; nodes by the usual size of one. Raises InputError for a broken partition."""
    spec, hardware = serving.spec, serving.hardware
    layout = engine.resolve_layout(spec, asked, num_devices, serving.deployment.stated)
    if asked.pp_layers is not None and (len(asked.pp_layers) != layout.pp or sum(asked.pp_layers) != len(spec.layers)):
        stated = ",".join(str(count) for count in asked.pp_layers)
        raise InputError(
            f"pipeline partition {stated}: {len(asked.pp_layers)} stages of {sum(asked.pp_layers)} layers, but the layout "
            f"has {layout.pp} and the model {len(spec.layers)}",
            hint="give one number of layers per stage, which sum to the model's layers",
        )
    if asked.num_nodes is not None and asked.num_nodes > layout.num_gpus:
        raise InputError(
            f"--nodes {asked.num_nodes}: the layout uses {layout.num_gpus} GPUs, at most one node for each",
            hint=f"say --nodes {layout.num_gpus} or fewer, or leave it out",
        )
    if asked.num_nodes is None and hardware is not None and hardware.node_sizes:
        layout = layout._replace(num_nodes=max(layout.num_nodes, -(-layout.num_gpus // max(hardware.node_sizes))))
    return layout


def make_question(
    serving: Serving,
    engine: Engine,
    asked_layout: AskedLayout,
    num_devices: int | None,
    version_origin: Origin,
    doubts: tuple[Remark, ...],
    matched: "Matched | None",
    *,
    use_headers: bool,
) -> Question:
    """Fold the model once and fetch what the engine and the hardware say about it."""
    layout = find_layout(engine, serving, asked_layout, num_devices)
    serving = serving._replace(deployment=serving.deployment._replace(layout=layout))
    spec, quantisation = serving.spec, serving.quantisation
    known = matched if use_headers else None
    beyond = tuple(each for each in matched.holdings if not each.weight.shape) if matched else ()
    stored = known.holdings if known else holdings(serving.owned, quantisation) + beyond
    drafts = engine.loads_drafts(serving.deployment.stated) and spec.mtp is not None
    held = loaded_holdings(engine, stored, spec.dtype, drafts=drafts)
    if matched is not None and matched.missing:
        told = "the checkpoint lacks tensors that the config promises: what it holds is not the whole model"
        doubts += (Remark("checkpoint-incomplete", "warning", told),)
    return Question(
        serving=serving,
        engine=engine,
        rows=cache_rows(spec),
        matched=known,
        beyond=beyond,
        held=held,
        as_stored=known is not None and set(held) <= set(stored) and not known.missing,
        doubts=doubts + engine.doubts(serving, engine.settle(serving)),
        rules=_rules(engine, serving),
        asked_layout=asked_layout,
        num_devices=num_devices,
        version_origin=version_origin,
        drafts=drafts,
        learned=learned_lines(serving),
    )


def drafts_by(flag: str) -> bool:
    """Whether a setting of an engine is one of speculation: each of them begins with this word, or with `spec-` (llama.cpp)."""
    return flag.lstrip("-").startswith(("speculative", "spec-"))


def requantised(question: Question, quantisation: Quantisation) -> Question:
    """The same question with other weight formats; the cache follows where the checkpoint had a say in its dtype."""
    serving = question.serving._replace(quantisation=quantisation)
    stored = holdings(serving.owned, quantisation) + question.beyond
    held = loaded_holdings(question.engine, stored, question.spec.dtype, drafts=question.drafts)
    rules = _rules(question.engine, serving)
    return question._replace(serving=serving, rules=rules, held=held, matched=None, as_stored=False)


def loaded_holdings(
    engine: Engine, held: tuple[Holding, ...], dtype: str, *, drafts: bool = False
) -> tuple[Holding, ...]:
    """The holdings that the engine loads: draft layers (MTP) only with speculation, and nothing that it leaves out.

    Plain weights are held in the dtype that the engine runs in, whatever the checkpoint stores them in.
    """
    plain = BY_DTYPE[dtype]
    # A GGUF file states the type of every tensor, and it is kept.
    stated = any(each.format.startswith("gguf ") for each in held)
    loaded = []
    for each in held:
        if each.part == "mtp_duplicate" or (each.part == "mtp" and not drafts):
            continue
        if engine.leaves_out(each.weight.name) is not None:
            continue
        stored = BY_NAME.get(each.format)
        if stored is not None and stored != plain and not each.weight.buffer and not stated:
            size = each.num_bytes * plain.element_bits // stored.element_bits
            loaded.append(each._replace(format=plain.name, num_bytes=size))
        else:
            loaded.append(each)
    return tuple(loaded)


def _rules(engine: Engine, serving: Serving) -> CacheRules:
    hardware = serving.hardware
    return engine.cache_rules(
        serving.spec,
        asked=serving.deployment.kv_dtype,
        scheme=serving.quantisation.kv_cache_dtype,
        weight_dtype=serving.spec.dtype,
        capability=hardware.compute_capability if hardware else None,
        stated=serving.deployment.stated,
    )
