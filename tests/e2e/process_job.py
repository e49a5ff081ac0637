"""What the tests of process operators share: pipelines with tests/harness/process_peer.py, and who runs."""
import os
import pathlib
import shutil

from batch_job import wait_for
from tap import ROOT

PEER = os.path.join(ROOT, "tests", "harness", "process_peer.py")
PIPELINE = """inputs:
  - {name: x, dtype: BYTES, shape: [1]}
stages:
  - name: step
    operator: process
    inputs: {t: x}
    parameters:
      command: [python3, peer.py, %s, %s]
      inputs: "t:BYTES[1]"
      outputs: "t:BYTES[1]"
      %s
outputs: {out_x: step}
"""


def pipeline_write(directory, file, start="tag", more=""):
    """A pipeline with a program of its own beside it; all of its processes have the directory in their command lines."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(PEER, directory / "peer.py")
    (directory / file).write_text(PIPELINE % (start, directory, more))
    return directory / file


def processes_of(directory):
    """The processes that run there now."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % name, "rb") as line:
                words = line.read().split(b"\0")
                if b"peer.py" in words and str(directory).encode() in words:
                    found.append(int(name))
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError, PermissionError):
            pass
    return found


def all_gone(directory):
    wait_for(lambda: not processes_of(directory), 20)
