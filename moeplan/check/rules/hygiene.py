"""Pins, names, secrets, and words that nobody understands: it may fit today and not tomorrow."""

from __future__ import annotations

import re
from collections.abc import Iterator

from moeplan.check.estimates import Outcome
from moeplan.check.rules import FileSeen, Hit, Rule
from moeplan.check.subject import FORMAT_WORDS, is_container_path

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_COMMIT = re.compile(r"[0-9a-f]{40}")
UNNAMED = "a token"
"""What a token is called that stands for itself."""
MOVING_TAGS = ("latest", "nightly", "main", "stable", "dev", "edge")


def revision(outcome: Outcome) -> Iterator[Hit]:
    """No commit of the model is stated: the repository may change, and with it what is loaded.

    Engines take `--revision` with the 40 digits of a commit. A branch such as `main` moves. An error where the policy has
    `require: {pinned_revision: true}`.
    """
    subject = outcome.subject
    model = subject.model
    if model is None or subject.engine is None or subject.engine.text == "llamacpp" or "/" not in model.text:
        return
    if outcome.estimate is not None and outcome.estimate.model.source == model.text:  # a path: it has no revisions
        return
    if subject.revision is None:
        told = f"the revision of {model.text} is not pinned"
        yield Hit(told, subject.spot("model"), "state --revision with a commit")
    elif not _COMMIT.fullmatch(subject.revision.text):
        told = f"the revision {subject.revision.text} of {model.text} is no commit: it may move"
        yield Hit(told, subject.revision.spot or subject.spot("model"), "state the 40 digits of a commit")


def image(outcome: Outcome) -> Iterator[Hit]:
    """The image has no tag, or one that moves: the engine may change between two starts of a pod.

    An error where the policy has `require: {pinned_image: true}`; then a tag is not enough, and a digest is.
    """
    quote, demanded = outcome.subject.deployed.image, outcome.subject.terms.required.pinned_image
    if quote is None or not quote.known or _DIGEST.search(quote.text):
        return
    tag = quote.text.rpartition("/")[2].partition(":")[2]
    if not tag or tag.lower() in MOVING_TAGS or demanded:
        told = f"the image {quote.text} has {f'the tag {tag}' if tag else 'no tag'}, and no digest"
        yield Hit(told, quote.spot, "name a version and its digest: image:v1.2.3@sha256:...")


def version(outcome: Outcome) -> Iterator[Hit]:
    """The engine's version is not known from the image, so defaults of the newest known version are assumed.

    Defaults change between versions: vLLM's share of the memory was 0.90 and is 0.92. State it with
    `# moeplan: engine_version=0.23.0`, or `defaults: {engine_version: ...}` in the policy.
    """
    subject, found = outcome.subject, outcome.estimate
    if subject.engine is None or found is None:
        return
    taken = f"{found.layout.engine} {found.layout.engine_version}"
    hint = "say it with a comment `# moeplan: engine_version=...`"
    unread = next((note for note in outcome.notes if note.code == "version-unread"), None)
    near = next((note for note in found.notes if note.code == "engine-version"), None)
    if subject.engine_version is None:
        yield Hit(
            f"the engine's version is not stated; rules and defaults of {taken} are assumed",
            subject.spot("image"),
            hint,
        )
    elif unread is not None:
        yield Hit(f"{unread.message}; rules and defaults of {taken} are assumed", subject.spot("image"), hint)
    elif near is not None:
        yield Hit(near.message, subject.spot("image"), reason=near.code)


def names(outcome: Outcome) -> Iterator[Hit]:
    """The path of the weights and the served name do not name the same model.

    A path that ends in `deepseek-r1-fp4`, served as `deepseek-ai/DeepSeek-R1`, holds other weights than the name says.
    """
    subject, deployed = outcome.subject, outcome.subject.deployed
    served = next((quote for quote in deployed.served_names if quote.known and "/" in quote.text), None)
    model = subject.model
    if served is None or model is None or model.spot is None or model.origin == "inferred":
        return
    mine, theirs = _last(model.text), _last(served.text)
    formats = {word for word in FORMAT_WORDS if (word in mine) != (word in theirs)}
    if formats or (not is_container_path(model.text) and mine not in theirs and theirs not in mine):
        told = f"serves {model.text} under the name {served.text}"
        yield Hit(told, served.spot, "let the name tell what is served, or ignore this rule with a reason")


def unknown_words(outcome: Outcome) -> Iterator[Hit]:
    """A flag or variable that moeplan does not know: what it does to memory is left out.

    The nearest known flag is named. Engines stop at flags that they do not know either.
    """
    for open_value in outcome.subject.left_out:
        told = f"{open_value.told}, and what it does to memory is not modelled"
        yield Hit(told, open_value.spot, open_value.hint, reason="flag-not-modelled")
    found = outcome.estimate
    for note in found.notes if found is not None else ():
        if note.code in ("flag-unknown", "flag-not-modelled", "flag-file"):
            yield Hit(
                note.message,
                outcome.subject.spot(note.message.partition(" ")[0].rstrip(":"), "model"),
                reason=note.code,
            )


def repeated(outcome: Outcome) -> Iterator[Hit]:
    """A flag is stated twice with different values: engines keep the last one."""
    found = outcome.estimate
    for note in found.notes if found is not None else ():
        if note.code == "flag-repeated":
            yield Hit(note.message, outcome.subject.spot(note.message.partition(" ")[0], "model"), reason=note.code)


def secrets(seen: FileSeen) -> Iterator[Hit]:
    """An access token stands in plain text. Its value is never shown; it should be revoked, and come from a secret."""
    for secret in seen.file.secrets:
        held = "an access token stands" if secret.name == UNNAMED else f"{secret.name} holds an access token"
        told = f"{held} in plain text"
        yield Hit(told, secret.spot, "revoke it, and take it from a secret (valueFrom.secretKeyRef)")


def key_twice(seen: FileSeen) -> Iterator[Hit]:
    """A key is given twice in one mapping: programs keep the last one, readers see the first."""
    for remark, name in seen.remarks():
        if remark.code == "key-twice":
            yield Hit(remark.message, remark.spot, remark.hint, deployment=name)


def gpu_unstated(outcome: Outcome) -> Iterator[Hit]:
    """The policy requires that a file states its GPU (`require: {gpu_stated: true}`), and this one leaves it to a default.

    Without that requirement a default of the policy or `--gpu` is enough.
    """
    subject = outcome.subject
    if subject.terms.required.gpu_stated and subject.gpu is not None and subject.gpu.spot is None:
        told = f"the file does not state its GPU; {subject.gpu.text} is taken from {subject.gpu.where}"
        yield Hit(told, subject.spot("gpus"), "state it with a node selector, or a comment `# moeplan: gpu=...`")


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


RULES = (
    Rule("HYG001", "revision not pinned", "warning", revision),
    Rule("HYG002", "image not pinned", "warning", image),
    Rule("HYG003", "engine version assumed", "info", version),
    Rule("HYG004", "path and served name disagree", "warning", names),
    Rule("HYG005", "flag not known", "warning", unknown_words),
    Rule("HYG006", "flag stated twice", "warning", repeated),
    Rule("HYG007", "secret in plain text", "error", judge_file=secrets),
    Rule("HYG008", "key given twice", "warning", judge_file=key_twice),
    Rule("HYG009", "GPU not stated in the file", "error", gpu_unstated),
)
