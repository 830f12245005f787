"""What the scripts of this folder share: one JSON object a line, out and in, as in ../js/ndjson.mjs."""

import json
import os
import sys
import threading

_lock = threading.Lock()


def say(kind, **fields):
    """Writes one line; the clients call back from threads of their own."""
    with _lock:
        sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
        sys.stdout.flush()


def commands():
    """The commands on standard input, until it ends: the test has let go, or died."""
    for line in iter(sys.stdin.readline, ""):
        yield json.loads(line)


def leave():
    """Ends at once: the clients' threads would go on."""
    os._exit(0)
