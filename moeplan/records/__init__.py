"""`moeplan record`: what is planned or was run, in one file that says how each figure is known; and two of them side by side.

making      a record of an estimate, with what was measured
loads       the load that was asked for, also where no speed is known
places      files of a machine by their names alone
public      a record without access tokens and passwords
given       figures and scores that were given by hand
flags       flags of the engine that moeplan does not resolve
logged      figures of an engine's log
dates       the day of a record, the same again where it is stated
settings    what was chosen, apart from what follows from it
diff        two records: settings that changed, figures by quality, latency, memory and cost
comparing   one figure of both
result      the types of what `diff` says
"""

from moeplan.core.record import Record
from moeplan.records.diff import record_diff
from moeplan.records.making import record
from moeplan.records.result import RecordDiff

__all__ = ["Record", "RecordDiff", "record", "record_diff"]
