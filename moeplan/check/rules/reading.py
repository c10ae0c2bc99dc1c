"""What could not be read, or is not known: neither passed nor failed."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.check.estimates import Outcome
from moeplan.check.rules import FileSeen, Hit, Rule
from moeplan.check.spoken import misspoken
from moeplan.core.deployed import REMARKS, Effect


def broken(seen: FileSeen) -> Iterator[Hit]:
    """The file cannot be read: broken YAML, too large, binary, no permission. Other files are still judged.

    The same holds for a file of settings inside of it, as a ConfigMap has them.

    Also a comment `# moeplan:` or an annotation `moeplan/...` that cannot be meant: it would be passed over otherwise.
    """
    yield from _told(seen, "broken")
    yield from misspoken(seen)


def not_rendered(seen: FileSeen) -> Iterator[Hit]:
    """A template, or an overlay without its base: what it deploys is only known when it is rendered.

    `helm template CHART | moeplan check -` and `kustomize build DIR | moeplan check -` read the rendered stream.
    """
    yield from _told(seen, "unrendered")


def incomplete(seen: FileSeen) -> Iterator[Hit]:
    """Something that a deployment refers to is not there: a base, a ConfigMap, the other half of a patch.

    Or it is there and not to be known: two ConfigMaps of one name that differ, a part of a card.
    """
    yield from _told(seen, "missing")


def told_only(seen: FileSeen) -> Iterator[Hit]:
    """Something that was taken as it stands and may be less: weights that are quantised later, a length that Ollama cuts.

    The verdict is on the safe side of it. An entry of a catalogue, which deploys nothing, is told here too.
    """
    yield from _told(seen, "told")


def _told(seen: FileSeen, effect: Effect) -> Iterator[Hit]:
    """Remarks with one effect, on the file and on its deployments."""
    for remark, name in seen.remarks():
        if REMARKS[remark.code].effect == effect:
            yield Hit(remark.message, remark.spot, remark.hint, reason=remark.code, deployment=name)


def no_model(outcome: Outcome) -> Iterator[Hit]:
    """The model is not known: no name, a path inside of the container, or a variable that the file leaves open.

    Also a name of Ollama's library, and a path that is served under the name of another checkpoint.
    """
    remarks = [each for each in outcome.subject.deployed.remarks if REMARKS[each.code].effect == "model"]
    for hit in _missing(outcome, "model"):
        yield from [Hit(each.message, each.spot, each.hint, reason=each.code) for each in remarks] or [hit]


def no_gpu(outcome: Outcome) -> Iterator[Hit]:
    """The GPU is not known: most files do not state its type; the policy, a comment or `--gpu` does.

    The same holds for a hardware profile that does not tell how much memory the card has.
    """
    yield from _missing(outcome, "gpu")
    for reason in outcome.estimate.verdict.reasons if outcome.estimate is not None else ():
        if reason.code == "memory-unknown":
            yield Hit(
                reason.message, outcome.subject.spot("gpu", "gpus"), "give it in a profile of your own, with --profiles"
            )


def open_value(outcome: Outcome) -> Iterator[Hit]:
    """A value that matters to memory is left open: a variable without a value, an engine that is not named.

    Nothing is executed and no environment but the file's own is read. `--set NAME=VALUE`, `variables:` of the policy and
    comments give values.
    """
    for missing in outcome.subject.missing:
        if missing.what not in ("model", "gpu"):
            yield Hit(missing.told, missing.spot, missing.hint)


def model_unread(outcome: Outcome) -> Iterator[Hit]:
    """The model is named, and its config cannot be read: no such repository, no network, no access, not in the lock.

    `moeplan lock` writes what is needed into `moeplan.lock`, so that later checks need no network.
    """
    if outcome.unread is not None:
        yield Hit(outcome.unread.message, outcome.subject.spot("model"), outcome.unread.hint)


def uncertain(outcome: Outcome) -> Iterator[Hit]:
    """It was estimated, but something about the model or the engine is not modelled, so that the verdict is not certain."""
    found = outcome.estimate
    if found is None or found.verdict.fits is None or found.verdict.certain or outcome.subject.gpu is None:
        return
    doubts = [note for note in found.notes if note.severity == "warning" and note.code not in TOLD_BY_HYGIENE]
    for note in doubts:
        yield Hit(note.message, outcome.subject.spot("model"), reason=note.code)


TOLD_BY_HYGIENE = (
    "flag-unknown", "flag-not-modelled", "flag-file", "flag-repeated", "engine-version", "context-of-engine", "gpus-idle",
    "revision-not-read",
)  # fmt: skip


def unpinned_facts(outcome: Outcome) -> Iterator[Hit]:
    """A revision is stated and could not be read, so the catalogue's facts of the model were taken instead."""
    found = outcome.estimate
    for note in found.notes if found is not None else ():
        if note.code == "revision-not-read":
            yield Hit(
                note.message, outcome.subject.spot("revision", "model"), "run `moeplan lock` where there is a network"
            )


def nothing_there(seen: FileSeen) -> Iterator[Hit]:
    """A file was named, and nothing in it is a deployment that moeplan reads. The check ends with exit code 2.

    Files of other programs that are met in a folder are passed over, and counted.
    """
    for remark in seen.file.remarks:
        if remark.code == "nothing-recognised":
            yield Hit(remark.message, remark.spot, remark.hint)


def _missing(outcome: Outcome, what: str) -> Iterator[Hit]:
    for missing in outcome.subject.missing:
        if missing.what == what:
            yield Hit(missing.told, missing.spot, missing.hint)


RULES = (
    Rule("READ001", "file not readable", "error", judge_file=broken),
    Rule("READ002", "not rendered", "unknown", judge_file=not_rendered),
    Rule("READ003", "something is not there", "unknown", judge_file=incomplete),
    Rule("READ004", "model not known", "unknown", no_model),
    Rule("READ005", "GPU not known", "unknown", no_gpu),
    Rule("READ006", "value left open", "unknown", open_value),
    Rule("READ007", "model not readable", "unknown", model_unread),
    Rule("READ008", "verdict not certain", "warning", uncertain),
    Rule("READ009", "facts of another revision", "warning", unpinned_facts),
    Rule("READ010", "nothing to judge", "error", judge_file=nothing_there),
    Rule("READ011", "taken as it stands", "info", judge_file=told_only),
)
