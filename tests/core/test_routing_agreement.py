"""Two captures token by token, on choices small enough to compare by hand."""

from __future__ import annotations

from array import array

from moeplan.core.routing_agreement import agreement
from moeplan.core.routing_capture import NO_EXPERT, CapturedLayer, CapturedPrompt, CaptureHeader
from moeplan.core.routing_profile import Provenance

HEADER = CaptureHeader("m", None, (CapturedLayer(0, 8, 2), CapturedLayer(3, 8, 2)), Provenance())


def prompt(name: str, *tokens: tuple[int, int, int, int], decode: int = 0) -> CapturedPrompt:
    """Tokens with two experts in each of the two layers."""
    flat = array("H", [expert for token in tokens for expert in token])
    return CapturedPrompt(name, "easy", len(tokens) - decode, decode, flat.tobytes())


def test_sets_are_compared_and_not_their_order() -> None:
    first = prompt("a", (0, 1, 2, 3), (4, 5, 6, 7))
    second = prompt("a", (1, 0, 2, 3), (4, 6, 7, 5))
    found = agreement(HEADER, [first], [second])
    assert (found.prompts, found.others) == (1, 0)
    layer, other = found.layers
    # Layer 0: {0,1} again, {4,5} against {4,6}; layer 3: {2,3} again, {6,7} against {5,7}.
    assert (layer.layer, layer.tokens, layer.equal, layer.chosen, layer.shared) == (0, 2, 1, 4, 3)
    assert (other.layer, other.equal_fraction, other.shared_fraction) == (3, 0.5, 0.75)


def test_answers_are_left_out() -> None:
    first = prompt("a", (0, 1, 2, 3), (4, 5, 6, 7), decode=1)
    second = prompt("a", (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), decode=2)
    found = agreement(HEADER, [first], [second])
    assert [layer.tokens for layer in found.layers] == [1, 1]
    assert all(layer.equal_fraction == 1 for layer in found.layers)


def test_prompts_are_matched_by_their_hash_and_length() -> None:
    mine = [prompt("a", (0, 1, 2, 3)), prompt("b", (0, 1, 2, 3)), prompt("c", (0, 1, 2, 3))]
    theirs = [prompt("c", (0, 1, 2, 3)), prompt("b", (0, 1, 2, 3), (0, 1, 2, 3)), prompt("d", (0, 1, 2, 3))]
    found = agreement(HEADER, mine, theirs)
    # c is the same; b has another length; a is in one alone, d in the other.
    assert (found.prompts, found.others) == (1, 3)
    assert agreement(HEADER, mine[:1], theirs).layers == ()


def test_tokens_that_chose_nobody_say_nothing() -> None:
    nobody = NO_EXPERT
    first = prompt("a", (0, 1, nobody, nobody), (nobody, nobody, nobody, nobody), (4, nobody, nobody, nobody))
    second = prompt("a", (0, 1, nobody, nobody), (nobody, nobody, nobody, nobody), (nobody, nobody, nobody, nobody))
    (layer,) = agreement(HEADER, [first], [second]).layers
    # The first token agrees, the third chose one expert here and none there, the second says nothing; no token came to layer 3.
    assert (layer.layer, layer.tokens, layer.equal, layer.chosen, layer.shared) == (0, 2, 1, 3, 2)


def test_prompts_that_failed_are_in_neither() -> None:
    failed = CapturedPrompt("a", "easy", 0, 0, problem="too long")
    found = agreement(HEADER, [failed], [prompt("a", (0, 1, 2, 3))])
    assert (found.prompts, found.others) == (0, 1)
