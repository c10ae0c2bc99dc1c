"""What holds for every test: no real Hub, no settings of the person who runs them, the same examples in CI."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Set before anything imports the Hub's client, which reads them once. Port 9 is closed: a test that asks the Hub
# without a server of its own fails at once and reaches nobody. Child processes inherit all of this.
for _name in tuple(os.environ):
    if _name.startswith(("MOEPLAN_", "HF_", "HUGGING", "CLICOLOR")) or _name in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}:
        del os.environ[_name]
_home = tempfile.TemporaryDirectory(prefix="moeplan-tests-")
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ["HF_HOME"] = f"{_home.name}/hf"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["XDG_CONFIG_HOME"] = f"{_home.name}/config"
os.environ["XDG_CACHE_HOME"] = f"{_home.name}/cache"

# Tests that run side by side have one core each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Time limits per example say more about a busy machine than about the code.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

ROOT = Path(__file__).resolve().parents[1]

# Who runs the tests in the background may have had Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of figures beside the checkout; tests that need it are skipped in a lone clone."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no figures beside the checkout")
    return folder


@pytest.fixture(scope="session")
def small_moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small MoE with its tokenizer, trained once in a run (about 20 s)."""
    from tests.routing.small_moe import train

    folder = tmp_path_factory.mktemp("trained") / "small-moe"
    train(folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs an accelerator where there is none; torch is asked only when such a test was collected."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no accelerator here"))
