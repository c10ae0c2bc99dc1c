"""The version, as a plain string: asking `importlib.metadata` for it would cost more start-up time than all else here."""

__version__ = "0.1.0"
