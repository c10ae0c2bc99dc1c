"""A small MoE that is trained here, in well under a minute on one core, so that its routing is skewed and correlated as that
of a real model is: random weights choose experts at random.

Its language has topics, each with words of its own and a chain of which word follows which; some topics are far more
frequent than others, and a few words belong to all. A sequence mostly keeps its topic. Nothing balances the experts.

    python -m tests.routing.small_moe FOLDER        trains it and says how it went
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

LAYERS, EXPERTS, TOP_K, HIDDEN = 4, 16, 2, 64
TOPICS, WORDS, COMMON = 8, 40, 24
"""Topics, words of each, words of all."""

STEPS, BATCH, LENGTH = 260, 16, 64
SEED = 11
SPECIAL = ("<pad>", "<eos>", "<unk>")
_FOLLOWERS = 4
"""Of each word in its topic's chain."""
_STAYS = 0.97
"""Chance that the next word has the same topic."""
_COMMON = 0.2
"""Chance that a word of all topics comes next."""


def words_of(topic: int) -> list[str]:
    """The words of a topic, by which a prompt can be made to be about it."""
    syllables = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru"]
    return [f"{syllables[topic]}{syllables[word // 10]}{syllables[word % 10]}" for word in range(WORDS)]


def common_words() -> list[str]:
    return [f"zu{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:COMMON]]


def vocabulary() -> list[str]:
    """Every word, in the order of token ids."""
    return [*SPECIAL, *common_words(), *(word for topic in range(TOPICS) for word in words_of(topic))]


class Language:
    """Draws sequences of token ids; the same seed draws the same."""

    def __init__(self, seed: int = SEED) -> None:
        import torch

        self.generator = torch.Generator().manual_seed(seed)
        chains = torch.Generator().manual_seed(SEED)  # the language itself does not change with the seed
        self.followers = torch.randint(WORDS, (TOPICS, WORDS, _FOLLOWERS), generator=chains)
        self.shares = 1.0 / torch.arange(1, TOPICS + 1).float()  # Zipf: the first topic is eight times the last
        self.common = 1.0 / torch.arange(1, COMMON + 1).float()

    def draw(self, batch: int, length: int, topic: int | None = None) -> Any:
        """Ids [batch, length]; of one topic from beginning to end where it is given."""
        import torch

        one = self.generator
        topics = torch.multinomial(self.shares, batch, replacement=True, generator=one)
        if topic is not None:
            topics.fill_(topic)
        words = torch.randint(WORDS, (batch,), generator=one)
        first = len(SPECIAL) + COMMON
        columns = []
        for _ in range(length):
            other = torch.multinomial(self.shares, batch, replacement=True, generator=one)
            stays = torch.rand(batch, generator=one) < _STAYS
            topics = topics if topic is not None else torch.where(stays, topics, other)
            step = torch.randint(_FOLLOWERS, (batch,), generator=one)
            words = self.followers[topics, words, step]
            shared = len(SPECIAL) + torch.multinomial(self.common, batch, replacement=True, generator=one)
            is_common = torch.rand(batch, generator=one) < _COMMON
            columns.append(torch.where(is_common, shared, first + topics * WORDS + words))
        return torch.stack(columns, dim=1)

    def text(self, num_words: int, topic: int | None = None) -> str:
        """One sequence in words."""
        every = vocabulary()
        return " ".join(every[word] for word in self.draw(1, num_words, topic)[0].tolist())


def tokenizer() -> Any:
    """One token per word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(vocabulary())}
    of_words = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    of_words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=of_words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=512
    )


def train(folder: Path, steps: int = STEPS) -> tuple[float, float]:
    """Train, and write checkpoint and tokenizer to `folder`; the loss of the first and of the last steps."""
    import torch
    from transformers import OlmoeConfig, OlmoeForCausalLM

    torch.manual_seed(SEED)
    config = OlmoeConfig(
        vocab_size=len(vocabulary()), hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=4, num_experts=EXPERTS, num_experts_per_tok=TOP_K,
        max_position_embeddings=512, pad_token_id=0, eos_token_id=1, tie_word_embeddings=False, router_aux_loss_coef=0.0,
    )  # fmt: skip
    model = OlmoeForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    language, losses = Language(), []
    for _ in range(steps):
        ids = language.draw(BATCH, LENGTH)
        with torch.enable_grad():  # whatever the test that asked first
            loss = model(input_ids=ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    model.eval().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return losses[0], sum(losses[-20:]) / 20


if __name__ == "__main__":
    begun = time.monotonic()
    before, after = train(Path(sys.argv[1]))
    print(f"loss {before:.2f} to {after:.2f} in {time.monotonic() - begun:.1f} s")  # noqa: T201
