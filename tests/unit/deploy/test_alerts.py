"""Every alert is about metrics that there are, fires in a test, and has an entry in the runbook."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

RULES = Path("deploy/prometheus/alerts.yaml")
RULE_TESTS = Path("deploy/prometheus/alerts_test.yaml")
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_severity_a_summary_and_an_entry_that_says_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{alert.lower()}"
    entry = re.search(rf"^## {alert}\n\n(\S.*)", Path("docs/runbook.md").read_text(), re.MULTILINE)
    assert entry is not None, "no section in docs/runbook.md"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_about_metrics_that_are_served(alert):
    # docs/telemetry.md is held to what the endpoints serve by tests/integration/telemetry.
    served = set(re.findall(r"`(multilora_[a-z_]+)`", Path("docs/telemetry.md").read_text()))
    served |= {f"{name}_{part}" for name in served for part in ("bucket", "count", "sum")}
    asked = set(re.findall(r"\b(?:multilora_\w+|up(?=\{))", ALERTS[alert]["expr"]))
    assert asked, "asks for nothing"
    assert asked <= served | {"up"}


def test_the_runbook_has_no_entry_without_an_alert():
    assert re.findall(r"^## (\w+)$", Path("docs/runbook.md").read_text(), re.MULTILINE) == list(ALERTS)


def test_every_alert_fires_in_a_rule_test_and_is_silent_when_all_is_well():
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_agrees():
    for command in (("check", "rules", RULES), ("test", "rules", RULE_TESTS)):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
