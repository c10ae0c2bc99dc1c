"""Checks made by hand: every verdict, every state of a finding, names that try to break out, and two hundred that pass."""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.check.result import SCHEMA, Check, Finding, Judged, Memory, Setting
from moeplan.check.summary import summary_of
from moeplan.core.deployed import FileRead
from moeplan.core.model import Remark
from moeplan.estimate.result import WayOut

GIB = 2**30
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def finding(code: str, message: str, **other: object) -> Finding:
    """A new error at the beginning of a file, but for what is said."""
    values: dict[str, object] = {
        "level": "error", "hint": "", "file": "deploy/r1.yaml", "line": 1, "column": 1, "key_path": "",
        "deployment": None, "deployment_line": None, "reason": None, "gap_bytes": None, "ways_out": (), "state": "new",
        "suppressed_by": None, "state_reason": "",
    }  # fmt: skip
    values |= {"code": code, "message": message} | other
    place = "-".join(str(values[name]) for name in ("code", "file", "deployment", "message"))
    values.setdefault("fingerprint", f"{sum(map(ord, place)):032x}")
    return Finding(**values)  # type: ignore[arg-type]


def judged(name: str, **other: object) -> Judged:
    """A passing deployment of one GPU, but for what is said."""
    values: dict[str, object] = {
        "file": "deploy/r1.yaml", "line": 1, "kind": "k8s.deployment", "role": "aggregate", "verdict": "pass", "fits": True,
        "engine": "vllm", "engine_version": "0.23.0", "model": "Qwen/Qwen3-30B-A3B", "revision": None,
        "gpu": "h100-sxm", "tp": 1, "pp": 1, "dp": 1, "ep": 1, "gpus_per_engine": 1, "replicas": 1, "total_gpus": 1,
        "usd_per_hour": None, "price_source": None, "memory": ROOM, "settings": (), "notes": (),
    }  # fmt: skip
    return Judged(**(values | {"name": name} | other))  # type: ignore[arg-type]


def check(deployments: Sequence[Judged], findings: Sequence[Finding] = (), **other: object) -> Check:
    """A check of these, with counts that belong to them; `passed_over` are files of other programs."""
    findings = [_owned(each, deployments) for each in findings]
    passed_over = other.pop("passed_over", ())
    assert isinstance(passed_over, tuple)
    files = dict.fromkeys([each.file for each in deployments] + [each.file for each in findings])
    read = [FileRead(file, recognised=True) for file in files] + [FileRead(file, False) for file in passed_over]
    values: dict[str, object] = {
        "schema": SCHEMA, "folder": ".", "policy": None,
        "locked": False, "baseline": None, "summary": summary_of(read, deployments, findings),
        "deployments": tuple(deployments), "findings": tuple(findings), "passed_over": passed_over, "notes": (),
        "fail_on": "error",
    }  # fmt: skip
    return Check(**(values | other))  # type: ignore[arg-type]


def _owned(found: Finding, deployments: Sequence[Judged]) -> Finding:
    """A finding with the line of its deployment: of those with its name the last that begins above it."""
    lines = [each.line for each in deployments if (each.file, each.name) == (found.file, found.deployment)]
    if found.deployment_line is not None or not lines:
        return found
    return found._replace(deployment_line=max([line for line in lines if line <= found.line] or [min(lines)]))


ROOM = Memory(
    usable_bytes=79 * GIB, budget_bytes=72 * GIB + 1, needed_bytes=61 * GIB, headroom_bytes=11 * GIB + 1, headroom_low_bytes=9 * GIB,
    weights_bytes=57 * GIB, worst_rank=0, context_tokens=32_768, concurrency=1, kv_tokens=120_000, max_concurrency=3,
    certain=True,
)  # fmt: skip
NO_ROOM = ROOM._replace(
    budget_bytes=72 * GIB,
    needed_bytes=85 * GIB,
    headroom_bytes=-13 * GIB,
    headroom_low_bytes=-14 * GIB,
    kv_tokens=0,
    max_concurrency=0,
)

PASSING = judged("chat", file="deploy/small.yaml", line=4)
FAILING = judged(
    "decode", line=12, role="decode", verdict="fail", model="deepseek-ai/DeepSeek-R1", revision=COMMIT, tp=8, ep=8,
    gpus_per_engine=8, replicas=2, total_gpus=16, usd_per_hour=48.0, price_source="policy: 3 per GPU", memory=NO_ROOM,
    settings=(
        Setting("model", "deepseek-ai/DeepSeek-R1", "stated", "deploy/r1.yaml:30"),
        Setting("tp", "8", "stated", "deploy/r1.yaml:34"),
        Setting("gpu", "h100-sxm", "default", "policy: defaults"),
        Setting("--gpu-memory-utilization", "0.92", "default", "vllm 0.23.0 default"),
        Setting("--block-size", "16", "default", "vllm 0.23.0 default"),
    ),
)  # fmt: skip
TOO_LARGE = finding(
    "FIT001", "needs 85.0 GiB on each GPU, and vllm may use 72.0 GiB", line=30, column=15, deployment="decode",
    key_path="spec.template.spec.containers[0].args[0]", reason="does-not-fit", gap_bytes=13 * GIB,
    ways_out=(WayOut("--tensor-parallel-size 16", 21 * GIB), WayOut("gpu: h200", 50 * GIB + 100)),
)  # fmt: skip
MOVING = finding(
    "HYG002", "the image vllm/vllm-openai:latest has the tag latest, and no digest", level="warning", line=28, column=18,
    deployment="decode", hint="name a version and its digest: image:v1.2.3@sha256:...",
)  # fmt: skip
OPEN = judged(
    "prefill", line=60, role="prefill", verdict="cannot-verify", gpu=None, memory=None, tp=None, pp=None, dp=None,
    ep=None, gpus_per_engine=None, replicas=None, total_gpus=None,
)  # fmt: skip
NO_GPU = finding(
    "READ005", "the file does not tell the type of the GPU", level="unknown", line=60, deployment="prefill",
    hint="say it with a comment `# moeplan: gpu=h100-sxm`",
)  # fmt: skip
IGNORED = finding(
    "HYG001", "the revision of Qwen/Qwen3-30B-A3B is not pinned", level="warning", file="deploy/small.yaml", line=9,
    column=13, deployment="chat", state="suppressed", suppressed_by="comment", state_reason="a mirror of ours",
)  # fmt: skip
KNOWN = finding(
    "LIM001", "11.0 GiB are left on the fullest GPU, and the policy demands 16.0 GiB", file="deploy/small.yaml", line=9,
    column=13, deployment="chat", level="warning", gap_bytes=5 * GIB, state="known", suppressed_by="baseline",
)  # fmt: skip
TWICE = finding("HYG008", "the key `args` is given twice", level="warning", file="deploy/small.yaml", line=7, column=3)
BROKEN = finding("READ001", "not valid YAML: it cannot be parsed", file="deploy/torn.yaml", line=3, column=2)
NEWER = finding(
    "HYG003", "the engine's version is not stated", level="info", file="deploy/small.yaml", line=6, deployment="chat"
)

EXAMPLE = check(
    [FAILING, OPEN, PASSING],
    [TOO_LARGE, MOVING, NO_GPU, TWICE, IGNORED, KNOWN, NEWER, BROKEN],
    policy="moeplan.yaml", passed_over=("deploy/other.yaml",),
    notes=(Remark("example", "info", "made by hand"),),
)  # fmt: skip
"""One of everything."""

EVIL = (
    "a|b `c` <img src=x onerror=y> [t](http://u) *s* $x$ &amp; # \\ ]]> <!-- @team %25 ,:;\"' {0} \x1b[1m\u202e"
    "\x07\x00\ufffe\uffff\udcff\n::error file=x::y\r\n##[add-mask]z ##vso[task.complete]z\n| line |"
)
"""Everything that Markdown, HTML, XML, terminals and the logs of CI machines take for their own."""
COMMAND = "::error file=x::y"


def hostile(text: str = EVIL) -> Check:
    """A check in which every text from outside is `text`."""
    evil = judged(
        text, file=text, line=2, kind=text, verdict="fail", engine=text, engine_version=text, model=text, revision=text,
        gpu=text, price_source=text, usd_per_hour=1.0, memory=NO_ROOM, settings=(Setting(text, text, "stated", text),),
        notes=(Remark(text, "warning", text),),
    )  # fmt: skip
    found = finding(
        "FIT001", text, file=text, line=2, deployment=text, hint=text, key_path=text, reason=text, gap_bytes=GIB,
        ways_out=(WayOut(text, 1),), fingerprint="0" * 32,
    )  # fmt: skip
    others = [
        found._replace(code="READ006", level="unknown"),
        found._replace(code="HYG001", level="warning", deployment=None),
        found._replace(code="HYG002", state="suppressed", state_reason=text, level="unknown"),
        found._replace(code="HYG003", state="known", state_reason=text),
    ]
    open_one = evil._replace(name=f"{text}2", line=9, verdict="cannot-verify")
    passing = evil._replace(name=f"{text}3", line=10, verdict="pass")
    return check(
        [evil, open_one, passing],
        [found, *others],
        policy=text,
        passed_over=(text,),
        notes=(Remark(text, "info", text),),
    )


def many(number: int, verdict: str = "pass", code: str = "HYG001", level: str = "warning") -> Check:
    """So many deployments with one and the same finding each."""
    deployments, findings = [], []
    for place in range(number):
        file, name = f"team-{place % 10}/engine.yaml", f"engine-{place:03}"
        deployments.append(judged(name, file=file, line=place + 1, verdict=verdict))
        findings.append(finding(code, f"told of {name}", level=level, file=file, line=place + 1, deployment=name))
    return check(deployments, findings)
