"""`python -m moeplan`."""

from __future__ import annotations

import os
import sys

from moeplan.core.errors import EXIT_INTERRUPTED

if __name__ == "__main__":
    try:
        from moeplan.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n hint: nothing was done yet; run it again\n")
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)  # nothing is there to be tidied; see `cli._interrupted` for what Python would do
    main()
