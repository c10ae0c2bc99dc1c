"""SGLang's pool of recurrent states: how many there are, and what is left for tokens.

Source: SGLang 0.5.23 srt/mem_cache/kv_cache_configurator.py, srt/mem_cache/memory_pool.py:MambaPool,
srt/configs/mamba_utils.py:Mamba2StateShape.create; the same of 0.5.10 to 0.5.17.
"""

from typing import NamedTuple

from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import CacheRow, CacheRules, state_bytes
from moeplan.core.mixers import mixers_of
from moeplan.core.model import Mamba2
from moeplan.core.placement import RankView
from moeplan.engines.sglang.registry import EXTRA_BUFFER, EXTRA_BUFFER_SINCE
from moeplan.engines.sglang.settings import REQUESTS, draft_tokens, requests_per_rank

RATIO_FLAG, STATES_FLAG = "--mamba-full-memory-ratio", "--max-mamba-cache-size"
SPARE_SINCE = "0.5.17"
"""Since then the padding slot that the pools have beside those counted is taken off before tokens are."""
SLOTS_PLAIN, SLOTS_EXTRA, SLOTS_WITHOUT_OVERLAP = 3, 5, 4
"""States of one running request: without track buffers, with two, and with one (lazy ones, or no overlap)."""


class StatePool(NamedTuple):
    """States of one rank."""

    state_bytes: int
    """Of one request over all its recurrent layers; 0 for a model without such."""
    slots_per_request: int
    ratio: float
    """Bytes of states over bytes of tokens, where nobody states how many states."""
    stated_slots: int | None
    spare: int
    """States that are charged beyond those counted."""
    drafts: int
    """Tokens that a step drafts: speculation keeps a state after each."""
    most_requests: int

    def total_bytes(self, token_bytes: int, sequences: int) -> int:
        """The smallest pool that surely leaves `token_bytes` for tokens and holds the states of `sequences`."""
        if not self.state_bytes:
            return token_bytes
        needed = sequences * self.slots_per_request
        if self.stated_slots is not None:
            slots = max(self.stated_slots, needed)
            return (slots + self.spare) * self.state_bytes + self._draft_bytes(slots) + token_bytes
        states = needed * (1 + self.drafts / self.slots_per_request) + self.spare * (1 + self.drafts)
        by_states = states * self.state_bytes * (1 + self.ratio) / self.ratio
        return -int(-max(token_bytes * (1 + self.ratio), by_states) // 1)

    def slots(self, pool_bytes: int) -> int:
        """States of a pool."""
        if not self.state_bytes:
            return 0
        if self.stated_slots is not None:
            return self.stated_slots
        share = pool_bytes * self.ratio / (1 + self.ratio) / self.state_bytes
        each = 1 + self.drafts / self.slots_per_request
        return max(0, int((share - self.spare * (1 + self.drafts)) // each))

    def left_bytes(self, pool_bytes: int) -> int:
        """What a pool leaves for tokens."""
        if not self.state_bytes:
            return pool_bytes
        slots = self.slots(pool_bytes)
        return pool_bytes - (slots + self.spare) * self.state_bytes - self._draft_bytes(slots)

    def _draft_bytes(self, slots: int) -> int:
        running = min(self.most_requests, slots // self.slots_per_request)
        return (running + self.spare) * self.drafts * self.state_bytes


def state_pool(serving: Serving, settings: Settings, rank: RankView, rules: CacheRules) -> StatePool:
    """The pool of states of one rank."""
    ranks = rank.division.attention
    rows = [row for row in rank.rows if row.kind == "recurrent"]
    size = sum(row.count * state_bytes(_extended(serving, row, ranks), rules, ranks) for row in rows)
    stated = serving.deployment.stated
    ratio = stated.get(RATIO_FLAG)
    slots = stated.get(STATES_FLAG)
    requests = requests_per_rank(serving, settings)
    count = None
    if isinstance(slots, int):
        count = max(1, slots // (serving.layout.dp if serving.layout.dp_attention else 1))
    elif stated.get(REQUESTS) is not None and settings.on("--disable-radix-cache"):
        count = requests
    return StatePool(
        state_bytes=size,
        slots_per_request=slots_per_request(serving, settings),
        ratio=float(ratio)
        if isinstance(ratio, int | float) and ratio
        else serving.constants.of("state_pool_ratio").value,
        stated_slots=count,
        spare=int(serving.constants.at_least(SPARE_SINCE)),
        drafts=draft_tokens(stated),
        most_requests=requests,
    )


def slots_per_request(serving: Serving, settings: Settings) -> int:
    """States that one running request takes: its own, and those that the radix cache keeps of it."""
    stated = serving.deployment.stated
    if settings.on("--disable-radix-cache"):
        return 1
    strategy = str(stated.get("--mamba-radix-cache-strategy") or "auto")
    if strategy == "auto":
        newer = serving.constants.at_least(EXTRA_BUFFER_SINCE) and serving.spec.model_type in EXTRA_BUFFER
        strategy = "extra_buffer" if newer else "no_buffer"
    if strategy == "no_buffer":
        return SLOTS_PLAIN
    overlap = not stated.get("--disable-overlap-schedule") and serving.layout.pp == 1
    return SLOTS_EXTRA if overlap and "lazy" not in strategy else SLOTS_WITHOUT_OVERLAP


def _extended(serving: Serving, row: CacheRow, ranks: int) -> CacheRow:
    """Groups of Mamba-2 that do not divide over the ranks become as many as there are ranks."""
    for mixer in mixers_of(serving.spec):
        if isinstance(mixer, Mamba2) and mixer.num_groups % ranks:
            inner = mixer.num_heads * mixer.head_dim
            if row.conv_channels == inner + 2 * mixer.num_groups * mixer.state_size:
                groups = -(-mixer.num_groups // ranks) * ranks
                return row._replace(conv_channels=inner + 2 * groups * mixer.state_size)
    return row
