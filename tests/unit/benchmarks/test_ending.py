"""A benchmark that is told to end takes its servers with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

RIG = Path(__file__).parents[3] / "benchmarks"
SERVERS = """
import subprocess, sys
from rig import ending
ending.unwind_when_told()
if len(sys.argv) == 1:
    print(ending.run([sys.executable, __file__, "child"]))
server = subprocess.Popen(["sleep", "600"])
try:
    print(server.pid, file=sys.stderr, flush=True)
    server.wait()
finally:
    server.kill()
    server.wait()
"""


def test_sigterm_ends_the_servers_of_a_benchmark_s_child(tmp_path):
    script = tmp_path / "benchmark.py"
    script.write_text(SERVERS)
    environment = {**os.environ, "PYTHONPATH": str(RIG)}
    with subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.PIPE, text=True) as running:
        server = int(running.stderr.readline())
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{server}").exists()
