"""What a team demands of its deployments: limits, allowed things, and what stands in for what files leave open."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from moeplan.core.deployed import Severity


class Limits(NamedTuple):
    """Bounds on what an estimate says; None where nothing is demanded."""

    min_headroom_gib: float | None = None
    """Left on the fullest GPU."""
    min_headroom_percent: float | None = None
    """As `min_headroom_gib`, of the GPU's usable memory."""
    min_kv_tokens: int | None = None
    """In the cache of one engine (of each attention rank, where ranks have caches of their own)."""
    min_concurrency: int | None = None
    """Sequences of the full length at the same time, in one engine."""
    min_context_tokens: int | None = None
    """The length that is served must be at least this."""
    max_context_tokens: int | None = None
    max_weights_gib_per_gpu: float | None = None
    max_gpus_per_engine: int | None = None
    max_total_gpus: int | None = None
    """Over all copies of one deployment."""
    max_usd_per_hour: float | None = None
    """Of all copies of one deployment, at the policy's price or the profile's highest."""


class Required(NamedTuple):
    """What a file must say."""

    pinned_revision: bool = False
    pinned_image: bool = False
    gpu_stated: bool = False
    """In the file itself: a default of the policy is not enough."""
    engine_version_stated: bool = False


class Allowed(NamedTuple):
    """Globs of what may be used; None allows everything."""

    gpus: tuple[str, ...] | None = None
    """Names of hardware profiles."""
    engines: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    formats: tuple[str, ...] | None = None
    """Of weights, as an estimate names them: `bf16`, `fp8*`."""
    kv_dtypes: tuple[str, ...] | None = None


class Stead(NamedTuple):
    """What holds where a file says nothing, and the load that is expected; None where nobody said."""

    gpu: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    model: str | None = None
    revision: str | None = None
    context: str | None = None
    concurrency: str | None = None


class Terms(NamedTuple):
    """What holds for one deployment."""

    stead: Stead = Stead()
    limits: Limits = Limits()
    required: Required = Required()
    allowed: Allowed = Allowed()
    severity: Mapping[str, Severity] = {}
    """By code or prefix."""
    select: tuple[str, ...] = ()
    """Codes or prefixes of the rules that are asked; empty is all."""
    ignore: tuple[str, ...] = ()


class Override(NamedTuple):
    """Other terms for some deployments."""

    path: str
    """Glob of file names, relative to the policy's folder."""
    name: str
    """Glob of the names of deployments."""
    terms: Mapping[str, Mapping[str, object]]
    """By field of `Terms`, what is set there."""
    ignore: tuple[str, ...]
    severity: Mapping[str, Severity]

    def applies(self, path: str, name: str) -> bool:
        """True where these terms hold."""
        return fnmatchcase(path, self.path) and fnmatchcase(name, self.name)


class Policy(NamedTuple):
    """A policy file."""

    path: str | None = None
    """As it is shown; None where there is none."""
    folder: str = "."
    """What its globs are relative to."""
    terms: Terms = Terms()
    models: Mapping[str, str] = {}
    """Paths and names of models in files, and the model that they stand for (`org/name@revision`, a path)."""
    gpus: Mapping[str, str] = {}
    """Names of GPUs in files, and the hardware profile that they stand for."""
    variables: Mapping[str, str] = {}
    """Values for variables that files leave open."""
    prices: Mapping[str, float] = {}
    """US dollars for one device and hour, by name of a hardware profile."""
    exclude: tuple[str, ...] = ()
    """Globs of files that are not checked."""
    overrides: tuple[Override, ...] = ()

    def terms_of(self, path: str, name: str) -> Terms:
        """What holds for the deployment `name` of a file; later overrides win."""
        terms = self.terms
        for override in self.overrides:
            if not override.applies(path, name):
                continue
            changed = {
                field: getattr(terms, field)._replace(**values) for field, values in override.terms.items() if values
            }
            terms = terms._replace(
                **changed,
                ignore=terms.ignore + override.ignore,
                severity={**terms.severity, **override.severity},
            )
        return terms
