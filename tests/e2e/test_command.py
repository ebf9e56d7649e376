"""The `multilora` command against both real services and the demo's model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.stack import ADAPTERS, MODEL
from tests.e2e.processes import running_services

pytestmark = pytest.mark.timeout(180)

COMMAND = [sys.executable, "-m", "client.command"]
GREEDY = ("--temperature", "0")


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    with running_services(tmp_path_factory.mktemp("services"), MODEL) as services:
        yield services


@pytest.fixture(scope="module")
def run(services):
    """Runs `multilora ARGS` with the addresses in the environment."""
    environment = {
        **os.environ,
        "MULTILORA_STORE": services.store.address,
        "MULTILORA_SERVER": services.inference.address,
    }

    def run(*arguments, status=0, stdin=""):
        done = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            env=environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    run("push", str(ADAPTERS / "reverse"), "--adapter", "acme/reverse", "--alias", "production")
    run("push", str(ADAPTERS / "upper"), "--adapter", "acme/upper")
    return run


def test_generate_streams_the_adapters_text(run):
    assert run("generate", "--adapter", "acme/reverse", *GREEDY, "stone").stdout == "enots\n"
    assert run("generate", "--adapter", "acme/upper@1", *GREEDY, "stone").stdout == "STONE\n"
    assert run("generate", *GREEDY, "stone").stdout == "stone\n"
    assert run("generate", "--adapter", "acme/reverse", *GREEDY, "-", stdin="stone").stdout == "enots\n"


def test_generate_stops_and_limits(run):
    reverse = ("generate", "--adapter", "acme/reverse", *GREEDY)
    assert run(*reverse, "--stop", "o", "stone").stdout == "en\n"
    assert run(*reverse, "--max-tokens", "2", "stone").stdout == "en\n"


def test_generate_says_what_happened_when_asked(run):
    stats = run("generate", "--adapter", "acme/reverse", *GREEDY, "--stats", "stone").stderr
    assert "[acme/reverse@1]" in stats
    assert "STOP" in stats
    result = json.loads(run("generate", "--adapter", "acme/reverse", *GREEDY, "--json", "stone").stdout)
    assert result["text"] == "enots"
    assert result["finished"]["usage"]["completion_tokens"] == len(result["token_ids"])


def test_list_and_show(run):
    assert "acme/reverse" in run("list").stdout
    assert "production->1" in run("list", "acme").stdout
    adapters = json.loads(run("list", "acme", "--json").stdout)
    assert {"tenants/acme/adapters/reverse", "tenants/acme/adapters/upper"} <= {
        each["name"] for each in adapters
    }
    assert "ACTIVE" in run("show", "acme/reverse").stdout
    assert "rank        24" in run("show", "acme/reverse@production").stdout
    assert json.loads(run("show", "acme/upper@1", "--json").stdout)["rank"] == 4
    assert "no adapters yet" in run("list", "nobody", "--server", "127.0.0.1:1").stdout


def test_versions_aliases_disable_and_enable(run):
    run("push", str(ADAPTERS / "dash"), "--adapter", "acme/roll")
    run("push", str(ADAPTERS / "upper"), "--adapter", "acme/roll")
    run("alias", "acme/roll@staging", "1", "--expect", "0")
    assert run("generate", "--adapter", "acme/roll@staging", *GREEDY, "sun").stdout == "s-u-n\n"
    moved = run("alias", "acme/roll@staging", "2", "--expect", "2", status=1)
    assert "ABORTED ALIAS_MOVED" in moved.stderr
    assert "points at version 2" in run("alias", "acme/roll@staging", "2", "--expect", "1").stdout
    history = json.loads(run("alias", "acme/roll@staging", "--json").stdout)
    assert [(each["from_version"], each["to_version"]) for each in history] == [(1, 2), (0, 1)]
    assert "DISABLED" in run("disable", "acme/roll@2").stdout
    assert "VERSION_NOT_ACTIVE" in run("generate", "--adapter", "acme/roll@2", "sun", status=1).stderr
    assert "ACTIVE" in run("enable", "acme/roll@2").stdout
    assert run("generate", "--adapter", "acme/roll", *GREEDY, "sun").stdout == "SUN\n"


def test_split_shadow_promote_and_roll_back(run):
    for name in ("dash", "upper", "reverse"):
        run("push", str(ADAPTERS / name), "--adapter", "acme/rollout")
    said = run("alias", "acme/rollout@staging", "--split", "1=90,2=10", "--shadow", "3=0.5").stdout
    assert "splits traffic over 1=90,2=10, shadow 3=0.5 (revision 1)" in said
    assert "staging->1=90,2=10" in run("list", "acme").stdout
    mine = ("generate", "--adapter", "acme/rollout@staging", *GREEDY, "--split-key", "me", "sun")
    assert run(*mine).stdout == run(*mine).stdout
    assert "production splits traffic over 1=90,2=10 (" in run("promote", "acme/rollout").stdout
    assert "NOTHING_TO_ROLL_BACK" in run("rollback", "acme/rollout", status=1).stderr
    run("alias", "acme/rollout@production", "3", "--expect", "1", "--expect-revision", "1")
    assert "VERSION_IN_USE" in run("delete", "acme/rollout@1", "--yes", status=1).stderr
    rolled = json.loads(run("rollback", "acme/rollout", "--expect", "3", "--json").stdout)
    assert [target["weight"] for target in rolled["targets"]] == [90, 10]
    history = run("alias", "acme/rollout@production").stdout
    moves = [line.split()[3:5] for line in history.splitlines()[2:]]
    assert moves == [["3", "1=90,2=10"], ["1=90,2=10", "3"], ["new", "1=90,2=10"]]


def test_delete_asks_first_and_is_for_good(run):
    run("push", str(ADAPTERS / "upper"), "--adapter", "acme/gone")
    run("push", str(ADAPTERS / "dash"), "--adapter", "acme/gone")
    asked = run("delete", "acme/gone@2", status=1, stdin="n\n").stderr
    assert "Delete the version acme/gone@2 for good?" in asked
    assert run("delete", "acme/gone@2", stdin="y\n").stdout.endswith("acme/gone@2 is deleted\n")
    assert "VERSION_NOT_ACTIVE" in run("generate", "--adapter", "acme/gone@2", "sun", status=1).stderr
    assert run("generate", "--adapter", "acme/gone", *GREEDY, "sun").stdout == "SUN\n"
    done = json.loads(run("delete", "acme/gone", "--yes", "--json").stdout)
    assert done == {"deleted": "acme/gone", "kind": "adapter"}
    assert "acme/gone" not in run("list", "acme").stdout
    assert "ADAPTER_NOT_FOUND" in run("generate", "--adapter", "acme/gone", "sun", status=1).stderr
    run("push", str(ADAPTERS / "dash"), "--adapter", "acme/gone")
    assert "acme/gone@3" in run("show", "acme/gone@latest").stdout


def test_watch_goes_on_from_a_token(run):
    run("push", str(ADAPTERS / "upper"), "--adapter", "acme/seen")
    token = json.loads(run("watch", "--json", "--no-wait").stdout)["resume_token"]
    run("alias", "acme/seen@staging", "1")
    run("disable", "acme/seen@1")
    run("push", str(ADAPTERS / "upper"), "--adapter", "zoo/unseen")
    seen = run("watch", "acme", "--no-wait", "--resume", token).stdout
    assert [line.split()[2:] for line in seen.splitlines()] == [
        ["ALIAS_CHANGED", "acme/seen@staging"],
        ["VERSION_DISABLED", "acme/seen@1"],
    ]
    assert "resume_token" in run("watch", "--no-wait", "--resume", "x", status=1).stderr


def test_load_resident_unload_and_stats(run):
    assert "DEVICE, pinned" in run("load", "acme/upper", "--pin").stdout
    assert "acme/upper@1" in run("resident").stdout
    resident = json.loads(run("resident", "--json").stdout)
    assert any(each["pinned"] for each in resident)
    assert "freed" in run("unload", "acme/upper").stdout
    assert "steps" in run("stats").stdout
    assert json.loads(run("stats", "--json").stdout)["model"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("generate", "--adapter", "acme/nobody", "x"), "NOT_FOUND ADAPTER_NOT_FOUND"),
        (("generate", "--temperature", "-1", "x"), "INVALID_ARGUMENT INVALID_FIELD"),
        (("generate", "--max-tokens", "100000", "x"), "INVALID_ARGUMENT CONTEXT_EXCEEDED"),
        (("show", "acme/nobody"), "NOT_FOUND"),
        (("push", "/nonexistent", "--adapter", "acme/x"), "not a directory"),
        (("push", str(ADAPTERS / "upper"), "--adapter", "Not A Name"), "INVALID_ARGUMENT"),
        (("list", "--store", "127.0.0.1:1"), "UNAVAILABLE"),
    ],
)
def test_an_error_is_one_line_and_status_1(run, arguments, says):
    done = run(*arguments, status=1)
    assert says in done.stderr
    assert done.stderr.startswith("multilora: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate",),
        ("nonsense",),
        ("push", "x"),
        ("alias", "acme/reverse", "1"),
        ("generate", "--system", "be brief", "x"),
        ("push", "x", "--adapter", "a/b", "--label", "novalue"),
        ("generate", "x", "--max-tokens", "99999999999"),
        ("generate", "x", "--seed", str(2**64)),
        ("generate", b"\xff\xfe"),
        ("alias", "a/b@c", str(2**63)),
        ("bench", "--tenant", "acme", "--prompt-tokens", "x"),
    ],
)
def test_wrong_usage_is_status_2(run, arguments):
    assert "multilora" in run(*arguments, status=2).stderr


def listed_commands(help_text):
    return [line.split()[0] for line in help_text.partition("Commands:")[2].splitlines() if line.strip()]


def test_help_of_every_command(run):
    names = listed_commands(run("--help").stdout)
    assert {"store", "serve", "push", "list", "show", "alias", "generate", "resident", "bench"} <= set(names)
    for name in names:
        top = run(name, "--help").stdout
        for shown in [run(name, each, "--help").stdout for each in listed_commands(top)] or [top]:
            assert "usage" in shown.lower()
            # A script may give both addresses to every command; a service has settings of its own.
            assert name in ("store", "serve") or ("--store" in shown and "--server" in shown)
    assert "--pool-bytes" in run("serve", "--help").stdout
    assert "--data-dir" in run("store", "--help").stdout


def test_ctrl_c_is_status_130_without_a_traceback(run, services):
    arguments = (
        "generate",
        "--server",
        services.inference.address,
        "--ignore-eos",
        "--max-tokens",
        "500",
        "stone",
    )
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    deadline_s = time.monotonic() + 30
    while json.loads(run("stats", "--json").stdout)["stats"]["running_requests"]:
        assert time.monotonic() < deadline_s, "the cancelled request still runs"


def test_bench_measures_all_three_rows(run, tmp_path):
    output = tmp_path / "bench.json"
    shape = (
        "--requests",
        "6",
        "--concurrency",
        "3",
        "--repeats",
        "1",
        "--prompt-tokens",
        "4",
        "--output-tokens",
        "4:6",
    )
    shown = run("bench", "--tenant", "acme", *shape, "--output", str(output)).stdout
    assert all(row in shown for row in ("no adapter", "one adapter", "many adapters"))
    result = json.loads(output.read_text())
    assert [row["num_requests"] for row in result["rows"]] == [6, 6, 6]
    assert all(row["tokens_per_s"] > 0 and row["num_errors"] == 0 for row in result["rows"])
    run("bench", "--random", "2", "--loop", "open", "--rate", "20", "--duration", "0.3", *shape)


def test_a_service_whose_extra_is_missing_says_which(tmp_path):
    hide = "import sys; sys.modules['torch'] = sys.modules['sqlalchemy'] = None"
    (tmp_path / "sitecustomize.py").write_text(hide)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    for name, extra in (("store", "adapter-store"), ("serve", "inference")):
        done = subprocess.run(
            [*COMMAND, name, "--help"],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert f"pip install 'multilora[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr
