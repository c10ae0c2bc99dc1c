"""What can go wrong, as types.

MoeplanError          one line of what is wrong, one line of way out, one exit code
├── InputError        2: the input or the usage is wrong
│   └── ConfigError   2: a config that does not determine the answer
└── UnknownError      3: could not find out (Hub unreachable, not measurable here)
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FINDINGS = 1
EXIT_INPUT = 2
EXIT_UNKNOWN = 3
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130


class MoeplanError(Exception):
    """Base of all expected errors: `message` says what is wrong, `hint` is the way out."""

    exit_code = EXIT_INPUT

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(MoeplanError):
    """The input or the usage is wrong."""

    exit_code = EXIT_INPUT


class ConfigError(InputError):
    """A model config that is broken or does not determine the answer."""


class UnknownError(MoeplanError):
    """The answer could not be found out from here."""

    exit_code = EXIT_UNKNOWN
