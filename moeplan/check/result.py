"""What a check says: the result types, with the names of the JSON contract (`moeplan.check/1`)."""

from typing import Literal, NamedTuple

from moeplan.core.deployed import Role
from moeplan.core.deployment import Origin
from moeplan.core.model import Remark
from moeplan.estimate.result import WayOut

SCHEMA = "moeplan.check/1"

Level = Literal["error", "warning", "info", "unknown"]
"""`unknown` says that something could not be verified: neither passed nor failed."""
Verdict = Literal["pass", "fail", "cannot-verify"]
State = Literal["new", "known", "suppressed"]
"""`known` findings stand in the baseline; `suppressed` ones are ignored by a comment, an annotation or the policy."""


class Finding(NamedTuple):
    """One thing that a rule found."""

    code: str
    level: Level
    message: str
    hint: str
    """The way out; empty where there is none."""
    file: str
    line: int
    column: int
    key_path: str
    deployment: str | None
    """The name of the deployment that it is about; None for the file."""
    deployment_line: int | None
    """Where that deployment begins; several of a file may share a name."""
    reason: str | None
    """The code of the engine's refusal or of the note that is behind it."""
    gap_bytes: int | None
    """Bytes that are missing on the fullest GPU, where it is about memory."""
    ways_out: tuple[WayOut, ...]
    """Changes that were tried with the same arithmetic."""
    fingerprint: str
    """The same for the same finding after lines moved."""
    state: State
    suppressed_by: Literal["comment", "annotation", "policy", "baseline"] | None
    """What makes that it is not new."""
    state_reason: str
    """Why, as somebody wrote it; empty otherwise."""


class Setting(NamedTuple):
    """One value that the verdict stands on, and where it comes from."""

    name: str
    value: str
    origin: Origin
    where: str
    """`deploy.yaml:34`, `policy`, `--gpu`, `vllm 0.23.0 default`, ..."""


class Memory(NamedTuple):
    """What the estimate says of one engine; bytes are of the fullest GPU."""

    usable_bytes: int | None
    """Of the card."""
    budget_bytes: int | None
    """Of that, what the engine may use."""
    needed_bytes: int | None
    headroom_bytes: int | None
    headroom_low_bytes: int | None
    weights_bytes: int | None
    worst_rank: int | None
    context_tokens: int
    concurrency: int
    kv_tokens: int | None
    max_concurrency: int | None
    certain: bool


class Judged(NamedTuple):
    """One deployment and its verdict."""

    file: str
    line: int
    kind: str
    name: str
    role: Role
    verdict: Verdict
    fits: bool | None
    """What the estimate says; None where it says nothing."""
    engine: str | None
    engine_version: str | None
    model: str | None
    revision: str | None
    gpu: str | None
    """Name of the hardware profile."""
    tp: int | None
    pp: int | None
    dp: int | None
    ep: int | None
    gpus_per_engine: int | None
    """As the file asks for them, else as the layout needs them."""
    replicas: int | None
    total_gpus: int | None
    """Over all copies; the most that an autoscaler may run."""
    usd_per_hour: float | None
    price_source: str | None
    memory: Memory | None
    """None where nothing could be estimated."""
    settings: tuple[Setting, ...]
    notes: tuple[Remark, ...]


class Summary(NamedTuple):
    """How many of each; findings that are known or suppressed count there alone."""

    files: int
    files_passed_over: int
    """Files of other programs."""
    deployments: int
    passed: int
    failed: int
    cannot_verify: int
    errors: int
    warnings: int
    infos: int
    unknown: int
    known: int
    suppressed: int


class Check(NamedTuple):
    """The answer of `moeplan check`; `schema` names the version of its JSON."""

    schema: str
    folder: str
    """The working folder as its repository calls it, `.` at the top and outside of any: names of files are relative to it."""
    policy: str | None
    locked: bool
    baseline: str | None
    """The file of findings that are known."""
    summary: Summary
    deployments: tuple[Judged, ...]
    findings: tuple[Finding, ...]
    passed_over: tuple[str, ...]
    """Files of other programs that were named, or met in a folder."""
    notes: tuple[Remark, ...]
    fail_on: Level
    """From which level on a finding fails the check."""
