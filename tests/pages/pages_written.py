"""The pages that a browser looks at: each with the question that it answers, written as the command line writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from moeplan.cli import _run
from tests.golden.configs import BY_NAME
from tests.pages.other_pages import OTHERS

ROOT = Path(__file__).resolve().parents[2]

HOSTILE = "<script>alert(1)<plaintext><img src=x onerror=alert(2)>\"'&amp;\u202e\u2028\x1b[31m\uffff"
"""A folder's name that tries to leave its place: tags, quotes, an entity, reordering, an escape sequence, and no character,
at which the drawing library ends the program."""
HOSTILE_TEXT = f"</script></title></main>{HOSTILE}-->"
"""A name that may hold slashes too."""
LOAD = ["--context", "8k", "--concurrency", "64", "--input", "2k", "--output", "500", "--ttft", "2s", "--tpot", "40ms"]


class Written(NamedTuple):
    """A page and the JSON of the same question."""

    path: Path
    told: dict[str, Any]

    @property
    def text(self) -> str:
        """The page itself."""
        return self.path.read_text(encoding="ascii")


def estimate_of_600b(folder: Path) -> list[str]:
    """The largest page: a model of 671B on eight GPUs under a load, with the counts of a routing profile."""
    return [
        "estimate",
        "deepseek-v3",
        "--gpu",
        "8xh200",
        "--tp",
        "1",
        "--dp",
        "8",
        "--ep",
        "8",
        *LOAD,
        *_routing(folder),
    ]


def estimate_that_fits_not(folder: Path) -> list[str]:
    """One GPU too small, no load."""
    return ["estimate", "mixtral-8x7b", "--gpu", "h100"]


def estimate_without_gpu(folder: Path) -> list[str]:
    """Nothing to hold it against."""
    return ["estimate", "mixtral-8x7b"]


def estimate_of_stages(folder: Path) -> list[str]:
    """Ranks that differ, windows in the cache, weights in host memory."""
    return [
        "estimate",
        "gpt-oss-120b",
        "--gpu",
        "2xrtx-4090",
        "--engine",
        "llamacpp",
        "--context",
        "16K",
        "--",
        "--n-cpu-moe",
        "24",
    ]


def estimate_with_drafts(folder: Path) -> list[str]:
    """A model whose own layers draft."""
    return ["estimate", "deepseek-v3", "--gpu", "8xh200", "--draft-tokens", "2", "--acceptance", "0.8", *LOAD]


def estimate_of_a_dense_model(folder: Path) -> list[str]:
    """No expert anywhere, one GPU, a speed."""
    return ["estimate", "llama-3.1-8b-instruct", "--gpu", "h100", "--concurrency", "16", "--context", "8k"]


def estimate_of_a_hostile_name(folder: Path) -> list[str]:
    """A local model whose folder's name is an attack."""
    model = folder / HOSTILE
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(
        json.dumps(BY_NAME["gpt-oss"] | {"_name_or_path": HOSTILE_TEXT}), encoding="utf-8"
    )
    return ["estimate", str(model), "--gpu", "h100", "--concurrency", "4", "--context", "8k"]


def check_of_the_examples(folder: Path) -> list[str]:
    """The deployments of the repository, which pass."""
    return ["check", "examples", "--locked"]


def check_that_fails(folder: Path) -> list[str]:
    """A deployment that does not fit, with names that are attacks."""
    file = folder / "deploy" / "serve.yaml"
    file.parent.mkdir(exist_ok=True)
    container = {
        "name": HOSTILE_TEXT,
        "image": "vllm/vllm-openai:v0.11.0",
        "command": ["vllm", "serve", "mistralai/Mixtral-8x7B-v0.1", "--served-model-name", HOSTILE_TEXT],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": HOSTILE_TEXT},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    return ["check", str(file.parent), "--gpu", "h100-sxm", "--offline"]


PAGES: dict[str, Callable[[Path], list[str] | Written]] = {
    made.__name__.replace("_", " "): made
    for made in (
        estimate_of_600b,
        estimate_that_fits_not,
        estimate_without_gpu,
        estimate_of_stages,
        estimate_with_drafts,
        estimate_of_a_dense_model,
        estimate_of_a_hostile_name,
        check_of_the_examples,
        check_that_fails,
        *OTHERS,
    )
}
"""Words of the command line by the name of the page, or the page itself; to look at another one, add it here."""

_made: dict[str, Written] = {}


def written(name: str, folder: Path) -> Written:
    """The page of that name, and the JSON of the same words; each made once."""
    if name not in _made:
        place = folder / name.replace(" ", "-")
        place.mkdir(exist_ok=True)
        words = PAGES[name](place)
        if isinstance(words, Written):
            _made[name] = words
            return words
        own, _, engine = (
            (words, "", []) if "--" not in words else (words[: words.index("--")], "", words[words.index("--") :])
        )
        page, told = place / "page.html", place / "told.json"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            codes = [
                _run([*own, "--format", "html", "-o", str(page), *engine]),
                _run([*own, "--format", "json", "-o", str(told), *engine]),
            ]
        assert codes[0] == codes[1] in (0, 1, 3), codes
        _made[name] = Written(page, json.loads(told.read_text(encoding="utf-8")))
    return _made[name]


def _routing(folder: Path) -> list[str]:
    """Counts of 58 layers of 256 experts, 8 for each token, uneven on purpose."""
    from tests.pages.routing_counts import counts_file

    return ["--routing", str(counts_file(folder))]
