import subprocess
import sys


def test_logs_go_to_stderr_with_time_level_and_process():
    code = (
        "import logging; from services.common.telemetry import set_up_logging;"
        "set_up_logging('warning', 'engine');"
        "logging.getLogger('a.b').warning('words'); logging.getLogger('a').info('hidden')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith("WARNING engine a.b: words")
