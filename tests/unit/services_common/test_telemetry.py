import json
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


def test_json_lines_carry_the_trace_and_stay_one_line_whatever_is_logged():
    code = (
        "import logging; from services.common.telemetry import set_up_logging;"
        "from services.common.trace_context import TraceContext, set_current;"
        "set_up_logging('info', 'engine', 'json'); log = logging.getLogger('a.b'); log.info('one\\ntwo');"
        f"set_current(TraceContext('{'a' * 32}', '{'b' * 16}', True)); log.warning('%d words', 3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, within = map(json.loads, done.stderr.splitlines())
    assert (before["message"], before["process"], "trace_id" in before) == ("one\ntwo", "engine", False)
    assert (within["message"], within["level"], within["logger"]) == ("3 words", "WARNING", "a.b")
    assert (within["trace_id"], within["span_id"]) == ("a" * 32, "b" * 16)
