"""`moeplan routing`: how a model's experts are really used. One function for each command.

`reading` takes the part of a file that is asked for, `result` holds the types of what the commands say.
"""

from moeplan.routing.capture import capture
from moeplan.routing.drift import drift
from moeplan.routing.imports import import_dump
from moeplan.routing.placing import place
from moeplan.routing.profiling import profile
from moeplan.routing.report import report

__all__ = ["capture", "drift", "import_dump", "place", "profile", "report"]
