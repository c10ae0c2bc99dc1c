"""`python -m moeplan`, and the installed command."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from moeplan.core.errors import EXIT_INTERRUPTED


def main() -> NoReturn:
    """Run the command line. Ctrl-C while its modules are loaded ends as it does later: two lines, and 130."""
    try:
        from moeplan.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n hint: nothing was done yet; run it again\n")
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)  # nothing is there to be tidied; see `cli._interrupted` for what Python would do
    run()


if __name__ == "__main__":
    main()
