"""`moeplan check`: deployment files held against models, engines, GPUs and a policy.

asked       options and policy, held against what there is
models      where models are read from
subject     one deployment, joined with comments, policy and options
estimates   what the arithmetic says of it
rules/      what is wrong with that, each with a code
judging     rules, severities and suppressions become findings and verdicts
baseline    findings that are known already
diff        two checks, side by side
result      the types of the answer
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from moeplan.check.asked import check_asked
from moeplan.check.baseline import read_baseline
from moeplan.check.estimates import Estimator, Find
from moeplan.check.judging import Judging
from moeplan.check.models import find_models, lock_path
from moeplan.check.result import SCHEMA, Check, Level
from moeplan.check.rules import FileSeen, all_rules
from moeplan.check.subject import Options, Subject, subject_of
from moeplan.check.summary import NOTHING_RECOGNISED, is_foreign, summary_of
from moeplan.core.deployed import FileRead, Quote, Spot
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.policy import Policy
from moeplan.sources.deployments.files import STDIN
from moeplan.sources.deployments.gitignore import repository
from moeplan.sources.deployments.read import read_paths
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.locked_models import LockedModels
from moeplan.sources.policy import find_policy, read_policy

__all__ = ["Check", "check"]

Progress = Callable[[int, int], None]


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
    root: str | Path | None = None,
    progress: Progress | None = None,
) -> Check:
    """Judge every deployment of these files and folders; `-` is `stdin`, a rendered stream.

    `policy` is the nearest `moeplan.yaml` unless it is named; `gpu`, `engine` and `engine_version` hold where a file says
    nothing; `variables` stand in for those that files leave open; `select` and `ignore` are codes of rules or prefixes.
    `locked` reads models from the lock file alone. `pass_over` takes files of other programs for such also where they are
    named, as a pre-commit hook does. `root` is a copy of the working folder, for instance as it was at another time: the
    files are read below it, by the policy of here, and paths that it does not have are left out. `progress` is told how
    many files of how many are judged. Raises InputError for wrong usage: a path that is not there, a broken policy, an
    unknown code.
    """
    named = names_of(paths)
    terms = policy_of(policy, named)
    folders = [Path(each) for each in ([profiles] if isinstance(profiles, str | Path) else profiles)]
    options = Options(gpu, engine, engine_version)
    check_asked(options, select, ignore, fail_on, terms, folders)
    if lock is not None and not locked:
        raise InputError(f"--lock {lock} is read with --locked alone", hint="add --locked, or leave --lock out")
    known = read_baseline(Path(baseline)) if baseline is not None else None
    find: Find = LockedModels(lock_path(lock, terms, named)).find if locked else find_models(terms)
    prices = _prices(terms, folders)
    estimator = Estimator(find, [str(folder) for folder in folders], prices, offline=offline or locked)
    files = _files(named, terms, variables or {}, stdin, Path(root) if root is not None else None)
    if pass_over:
        files = [
            file._replace(remarks=tuple(each for each in file.remarks if each.code != NOTHING_RECOGNISED))
            for file in files
        ]
    judging = Judging(
        all_rules(), tuple(code.upper() for code in select), tuple(code.upper() for code in ignore), known
    )
    top = _top(named, terms)
    deployments, findings = [], []
    for place, file in enumerate(files):
        if progress is not None:
            progress(place, len(files))
        path = _below(file.path, terms)
        outcomes = tuple(
            estimator.outcome(subject_of(file, deployed, terms, options, path)) for deployed in file.deployments
        )
        seen = FileSeen(file, outcomes, _relative(file.path, top))
        judged, found = judging.file(seen, terms, path, fail_on)
        deployments += judged
        findings += found
    if progress is not None:
        progress(len(files), len(files))
    return Check(
        schema=SCHEMA,
        folder=_folder(),
        policy=terms.path,
        locked=locked,
        baseline=str(baseline) if baseline is not None else None,
        summary=summary_of(files, deployments, findings),
        deployments=tuple(deployments),
        findings=tuple(findings),
        passed_over=tuple(file.path for file in files if is_foreign(file)),
        notes=_notes(files, deployments),
        fail_on=fail_on,
    )


def names_of(paths: str | Path | Sequence[str | Path]) -> list[str]:
    """The paths as they are named; the working folder where there is none."""
    return [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)] or ["."]


def policy_of(named: str | Path | None, paths: Sequence[str]) -> Policy:
    """The policy that is named, else the nearest above the first path; an empty one where there is none."""
    if named is not None:
        if not Path(named).is_file():
            told = "is a folder" if Path(named).is_dir() else "is no file that is there"
            raise InputError(f"--policy {named} {told}", hint="name a moeplan.yaml, or leave --policy out")
        return read_policy(Path(named))
    first = Path(paths[0]) if paths[0] != STDIN else Path()
    found = find_policy(first if first.is_dir() else first.parent)
    return Policy() if found is None else read_policy(Path(os.path.relpath(found)))


def deployments_of(
    paths: str | Path | Sequence[str | Path] = ".",
    policy: str | Path | None = None,
    variables: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> tuple[tuple[Subject, ...], Policy]:
    """Every deployment of these files, not judged, and the policy that holds."""
    named = names_of(paths)
    terms = policy_of(policy, named)
    subjects = tuple(
        subject_of(file, deployed, terms, Options(), _below(file.path, terms))
        for file in _files(named, terms, variables or {}, stdin, None)
        for deployed in file.deployments
    )
    return subjects, terms


def _files(
    paths: Sequence[str], policy: Policy, variables: Mapping[str, str], stdin: str | None, root: Path | None
) -> list[FileRead]:
    """What the files deploy, but for those that the policy excludes."""
    there = [path for path in paths if root is None or os.path.lexists(os.path.join(root, os.path.relpath(path)))]
    given = {
        name: Quote(value, Spot(1), "stated", why="--set or policy")
        for name, value in {**policy.variables, **variables}.items()
    }
    return [
        file
        for file in read_paths(there, given, stdin, root)
        if not any(fnmatchcase(_below(file.path, policy), pattern) for pattern in policy.exclude)
    ]


def _prices(policy: Policy, folders: Sequence[Path]) -> dict[str, float]:
    """Prices by hardware profile. Raises InputError for a GPU that nobody knows."""
    found = {}
    for name, price in policy.prices.items():
        try:
            found[find_hardware(name, folders)[0].profile] = price
        except InputError as error:
            raise InputError(f"{policy.path}: `prices.{name}`: {error.message}", hint=error.hint) from None
    return found


def _below(path: str, policy: Policy) -> str:
    """A file's path relative to the policy's folder, as its globs are."""
    return path if policy.path is None else _relative(path, policy.folder)


def _top(paths: Sequence[str], policy: Policy) -> str:
    """What names of files are relative to in fingerprints, so that they are the same from every folder of a repository."""
    first = next((path for path in paths if path != STDIN), ".")
    top = repository(first if os.path.isdir(first) else os.path.dirname(first))
    return top or (policy.folder if policy.path is not None else ".")


def _folder() -> str:
    """The working folder, relative to the repository that it lies in."""
    here = os.getcwd()
    return os.path.relpath(here, repository(here) or here).replace(os.sep, "/")


def _relative(path: str, folder: str) -> str:
    if path == STDIN:
        return path
    above, name = os.path.split(os.path.abspath(path))
    place = os.path.join(os.path.realpath(above), name)
    return os.path.relpath(place, os.path.realpath(folder)).replace(os.sep, "/")


def _notes(files: Sequence[FileRead], deployments: Sequence[object]) -> tuple[Remark, ...]:
    if deployments or any(file.remarks for file in files):
        return ()
    told = f"no deployment was found in {len(files):,} file{'' if len(files) == 1 else 's'}: nothing was checked"
    return (Remark("nothing-found", "warning", told),)
