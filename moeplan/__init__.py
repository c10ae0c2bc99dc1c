"""moeplan: capacity and memory planning for Mixture-of-Experts language models.

The verbs of the command line are functions here: `moeplan.estimate("mixtral-8x7b", gpu="h100")`. Each is loaded
when it is first asked for, so that `import moeplan` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from moeplan.version import __version__

if TYPE_CHECKING:
    from moeplan import routing as routing
    from moeplan.check import check as check
    from moeplan.compare import compare as compare
    from moeplan.core.errors import MoeplanError as MoeplanError
    from moeplan.estimate import estimate as estimate
    from moeplan.inspect import gpus as gpus
    from moeplan.inspect import models as models
    from moeplan.lock import lock as lock
    from moeplan.offload import offload as offload
    from moeplan.plan import plan as plan
    from moeplan.profile import profile as profile
    from moeplan.records import record as record
    from moeplan.records import record_diff as record_diff
    from moeplan.validate import validate as validate

_HOMES = {
    "MoeplanError": "moeplan.core.errors",
    "check": "moeplan.check",
    "compare": "moeplan.compare",
    "estimate": "moeplan.estimate",
    "gpus": "moeplan.inspect",
    "lock": "moeplan.lock",
    "models": "moeplan.inspect",
    "offload": "moeplan.offload",
    "plan": "moeplan.plan",
    "profile": "moeplan.profile",
    "record": "moeplan.records",
    "record_diff": "moeplan.records",
    "routing": "moeplan.routing",
    "validate": "moeplan.validate",
}
"""Public names and the modules that they come from."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - names of a table are names


class _Package(ModuleType):
    """A verb's module and its function may share one name; the package always offers the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType) and hasattr(value, name):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_HOMES})

    def __getattr__(self, name: str) -> Any:
        if name in _HOMES:
            home = import_module(_HOMES[name])
            return getattr(home, name, home)  # a group of commands is a module of functions
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


sys.modules[__name__].__class__ = _Package
