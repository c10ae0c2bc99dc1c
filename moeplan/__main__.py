"""`python -m moeplan`."""

from __future__ import annotations

from moeplan.cli import main

if __name__ == "__main__":
    main()
