"""`python -m demo` as a user runs it: real processes, the closing table, nothing left behind."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import ServiceFailed, ServiceProcess
from demo.tasks import TASKS

pytestmark = pytest.mark.timeout(180)

DEMO = [sys.executable, "-m", "demo"]


def service_processes(directory: str) -> list[str]:
    """Command lines of processes that run over the demo's temporary directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if directory in line:
            found.append(line)
    return found


def test_every_adapter_answers_right_and_the_engine_mixed_them():
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    for task in TASKS:
        assert f"acme/{task.adapter}@1" in out
    num_streams = int(re.search(r"(\d+) streams at once", out)[1])
    right, asked, adapters = map(int, re.search(r"(\d+) of (\d+) answers right, from (\d+)", out).groups())
    assert num_streams >= 12
    assert right == asked
    assert adapters >= 8
    assert num_streams > asked, "the base model runs beside the adapters"
    mixed = int(re.search(r"mixed 2 or more adapters\s+(\d+)", out)[1])
    most = int(re.search(r"most adapters in one batch\s+(\d+)", out)[1])
    assert mixed > 0
    assert most >= 2
    assert int(re.search(r"pages of it for KV\s+(\d+)", out)[1]) > 0
    assert int(re.search(r"pages of it for adapters\s+(\d+)", out)[1]) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_services_too(number):
    with subprocess.Popen(
        [*DEMO, "--serve"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        directory = ""
        for line in demo.stdout:
            match = re.search(r"blobs in (\S+)", line)
            directory = match[1] if match else directory
            if "Ctrl-C stops them" in line:
                break
        assert len(service_processes(directory)) >= 2
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in errors
    assert service_processes(directory) == []
    assert not Path(directory).exists()


def test_the_lines_that_serve_prints_work_as_they_stand():
    with subprocess.Popen([*DEMO, "--serve"], stdout=subprocess.PIPE, text=True) as demo:
        lines = []
        for line in demo.stdout:
            lines.append(line.strip())
            if "Ctrl-C stops them" in line:
                break
        try:
            (line,) = (line for line in lines if "--adapter acme/reverse" in line)
            words = line.rpartition(' "')[2].rstrip('"')
            answer = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=True)
            assert answer.stdout == words[::-1] + "\n"
        finally:
            demo.terminate()
            demo.communicate(timeout=60)


def test_on_a_terminal_the_streams_are_drawn_live():
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"}
    with subprocess.Popen(DEMO, stdout=follower, stderr=follower, env=environment) as demo:
        os.close(follower)
        drawn = b""
        while chunk := read_terminal(leader):
            drawn += chunk
    os.close(leader)
    assert demo.returncode == 0
    assert "text as it arrives" in drawn.decode()
    assert "▌" in drawn.decode(), "a stream was seen half-way"


def read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 1 << 16)
    except OSError:
        return b""


async def test_a_service_that_cannot_start_shows_its_log(tmp_path):
    service = ServiceProcess("the adapter store", ("store", "--listen", "nonsense"), tmp_path / "store.log")
    with pytest.raises(ServiceFailed, match=r"(?s)the adapter store ended with status 2.*nonsense"):
        await service.start(60)
    await service.stop()
