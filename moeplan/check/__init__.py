"""`moeplan check`: deployment files held against models, engines, GPUs and a policy.

subject     one deployment, joined with comments, policy and options
estimates   what the arithmetic says of it
rules/      what is wrong with that, each with a code
judging     rules, severities and suppressions become findings and verdicts
baseline    findings that are known already
result      the types of the answer
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from moeplan.check.baseline import read_baseline
from moeplan.check.estimates import Estimator, Find
from moeplan.check.judging import Judging
from moeplan.check.result import SCHEMA, Check, Level
from moeplan.check.rules import FileSeen, all_rules
from moeplan.check.subject import Options, Subject, subject_of
from moeplan.check.summary import summary_of
from moeplan.core.deployed import FileRead, Quote, Spot
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.policy import Policy
from moeplan.sources.deployments.read import read_paths
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.locked_models import LockedModels
from moeplan.sources.policy import find_policy, read_policy
from moeplan.sources.stated_models import at_revision

__all__ = ["Check", "check", "deployments_of"]

Progress = Callable[[int, int], None]
NOTHING = "nothing-recognised"
"""Code of the remark on a named file of another program."""
FAIL_ON: tuple[Level, ...] = ("error", "warning", "info")


def check(
    paths: str | Path | Sequence[str | Path] = ".",
    *,
    policy: str | Path | None = None,
    gpu: str | None = None,
    engine: str | None = None,
    engine_version: str | None = None,
    variables: Mapping[str, str] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: Level = "error",
    baseline: str | Path | None = None,
    lock: str | Path | None = None,
    locked: bool = False,
    offline: bool = False,
    profiles: str | Path | Sequence[str | Path] = (),
    stdin: str | None = None,
    pass_over: bool = False,
    progress: Progress | None = None,
) -> Check:
    """Judge every deployment of these files and folders; `-` is `stdin`, a rendered stream.

    `policy` is the nearest `moeplan.yaml` unless it is named; `gpu`, `engine` and `engine_version` hold where a file says
    nothing; `variables` stand in for those that files leave open; `select` and `ignore` are codes of rules or prefixes.
    `locked` reads models from the lock file alone. `pass_over` takes files of other programs for such also where they are
    named, as a pre-commit hook does. `progress` is told how many files of how many are judged.
    Raises InputError for wrong usage: a path that is not there, a broken policy, an unknown code.
    """
    named = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)] or ["."]
    terms = _policy(policy, named)
    _check_codes((*select, *ignore, *terms.terms.select, *terms.terms.ignore, *terms.terms.severity))
    if fail_on not in FAIL_ON:
        raise InputError(f"--fail-on {fail_on!r} is no level", hint=f"levels: {', '.join(FAIL_ON)}")
    known = read_baseline(Path(baseline)) if baseline is not None else None
    folders = [profiles] if isinstance(profiles, str | Path) else list(profiles)
    find: Find = LockedModels(_lock_path(lock, terms)).find if locked else at_revision
    estimator = Estimator(find, [str(folder) for folder in folders], _prices(terms, folders), offline=offline or locked)
    options = Options(gpu, engine, engine_version)
    files = [
        file for file in read_paths(named, _given(terms, variables or {}), stdin) if not _excluded(file.path, terms)
    ]
    if pass_over:
        files = [file._replace(remarks=tuple(each for each in file.remarks if each.code != NOTHING)) for file in files]
    judging = Judging(
        all_rules(), tuple(code.upper() for code in select), tuple(code.upper() for code in ignore), known
    )
    deployments, findings = [], []
    for place, file in enumerate(files):
        if progress is not None:
            progress(place, len(files))
        path = _below(file.path, terms)
        outcomes = tuple(
            estimator.outcome(subject_of(file, deployed, terms, options, path)) for deployed in file.deployments
        )
        judged, found = judging.file(FileSeen(file, outcomes), terms, path, fail_on)
        deployments += judged
        findings += found
    if progress is not None:
        progress(len(files), len(files))
    return Check(
        schema=SCHEMA,
        policy=terms.path,
        locked=locked,
        baseline=str(baseline) if baseline is not None else None,
        summary=summary_of(files, deployments, findings),
        deployments=tuple(deployments),
        findings=tuple(findings),
        passed_over=tuple(file.path for file in files if not file.recognised),
        notes=_notes(files, deployments),
        fail_on=fail_on,
    )


def deployments_of(
    paths: str | Path | Sequence[str | Path] = ".", policy: str | Path | None = None
) -> tuple[tuple[Subject, ...], Path]:
    """Every deployment of these files, not judged, and the folder of the policy that holds."""
    named = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)] or ["."]
    terms = _policy(policy, named)
    files = [file for file in read_paths(named, _given(terms, {})) if not _excluded(file.path, terms)]
    subjects = tuple(
        subject_of(file, deployed, terms, Options(), _below(file.path, terms))
        for file in files
        for deployed in file.deployments
    )
    return subjects, Path(terms.folder if terms.path else ".")


def _given(policy: Policy, variables: Mapping[str, str]) -> dict[str, Quote]:
    """Values for variables that files leave open."""
    return {
        name: Quote(value, Spot(1), "stated", why="--set or policy")
        for name, value in {**policy.variables, **variables}.items()
    }


def _policy(named: str | Path | None, paths: Sequence[str]) -> Policy:
    """The policy that is named, else the nearest above the first path."""
    if named is not None:
        if not Path(named).is_file():
            raise InputError(f"--policy {named}: no such file", hint="name a moeplan.yaml, or leave --policy out")
        return read_policy(Path(named), str(named))
    first = Path(paths[0]) if paths[0] != "-" else Path()
    found = find_policy(first if first.is_dir() else first.parent)
    return Policy() if found is None else read_policy(found, os.path.relpath(found).replace(os.sep, "/"))


def _prices(policy: Policy, folders: Sequence[str | Path]) -> dict[str, float]:
    """Prices by hardware profile. Raises InputError for a GPU that nobody knows."""
    found = {}
    for name, price in policy.prices.items():
        try:
            found[find_hardware(name, tuple(map(Path, folders)))[0].profile] = price
        except InputError as error:
            raise InputError(f"{policy.path}: `prices.{name}`: {error.message}", hint=error.hint) from None
    return found


def _lock_path(named: str | Path | None, policy: Policy) -> Path:
    return Path(named) if named is not None else Path(policy.folder if policy.path else ".") / "moeplan.lock"


def _check_codes(codes: Sequence[str]) -> None:
    known = [rule.code for rule in all_rules()]
    for code in codes:
        if not any(each.startswith(code.upper()) for each in known):
            from difflib import get_close_matches

            near = get_close_matches(code.upper(), known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"{code} is no rule and no beginning of one", hint=f"{hint}docs/checks.md lists the codes")


def _excluded(path: str, policy: Policy) -> bool:
    return any(fnmatchcase(_below(path, policy), pattern) for pattern in policy.exclude)


def _below(path: str, policy: Policy) -> str:
    """A file's path relative to the policy's folder, as its globs are."""
    if policy.path is None or path == "-":
        return path
    return os.path.relpath(path, policy.folder).replace(os.sep, "/")


def _notes(files: Sequence[FileRead], deployments: Sequence[object]) -> tuple[Remark, ...]:
    if deployments or any(file.remarks for file in files):
        return ()
    told = f"no deployment was found in {len(files):,} files: nothing was checked"
    return (Remark("nothing-found", "warning", told),)
