"""One of the processes of `test_links`: measures a few collectives and, as rank 0, writes them to the file given."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from moeplan.core.measurement import Task
from moeplan.measure import links
from moeplan.measure.session import open_session

torch.set_num_threads(1)
session = open_session("cpu", 0)
tasks = [task for task in links.plan("quick", (), (), session.device) if int(task.case["bytes"] or 0) <= 2**16]
points = [links.measure(task, session) for task in tasks]
# One rank has too little memory: both must leave the case, and the next must work.
case = {**tasks[0].case, "bytes": 2**44 if os.environ["RANK"] == "1" else 2**10}
points.append(links.measure(Task("links", "gloo", "float32", case), session))
points.append(links.measure(tasks[0], session))
links.leave()
if os.environ["RANK"] == "0":
    rows = [{**point._asdict(), "spread": point.spread and point.spread._asdict()} for point in points]
    Path(sys.argv[1]).write_text(json.dumps(rows), encoding="utf-8")
