"""The worker's log lines, as a process of its own writes them."""

import json
import os
import re
import subprocess
import sys

CODE = """
import logging, structlog
from worker.logs import configure_logs
configure_logs()
structlog.get_logger("worker").info("audit claimed", audit_id="7", name='a "b"')
logging.getLogger("celery.worker.strategy").info("no news")
logging.getLogger("some.library").warning("%s of %s", 1, 2)
try:
    password = "hunter2"
    raise ValueError("no")
except ValueError:
    structlog.get_logger("worker").exception("it failed")
"""


def lines(form):
    environment = {**os.environ, "LOG_FORMAT": form}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "" and "hunter2" not in done.stderr
    return done.stderr.splitlines()


def test_machines_read_one_json_object_a_line():
    claimed, library, failed = map(json.loads, lines("json"))
    assert claimed["event"] == "audit claimed" and claimed["audit_id"] == "7" and claimed["name"] == 'a "b"'
    assert claimed["timestamp"].endswith("Z")
    assert library["event"] == "1 of 2" and library["logger"] == "some.library" and library["level"] == "warning"
    assert failed["exception"][0]["exc_type"] == "ValueError"


def test_people_read_the_time_of_their_clock():
    claimed, library, *failed = lines("text")
    assert re.match(r"\d\d:\d\d:\d\d \[info +\] audit claimed +audit_id=7", claimed)
    assert re.match(r"\d\d:\d\d:\d\d \[warning +\] 1 of 2", library)
    assert "it failed" in failed[0] and failed[-1] == "ValueError: no"
