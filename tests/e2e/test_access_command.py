"""`multilora token`, `tenant` and `audit` against a store with access control and mutual TLS."""

import json
import os
import subprocess
import sys

import pytest

from tests.certificates import Authority
from tests.integration.adapter_store.store_process import StoreProcess


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "client.command", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def ok(*arguments, **environment):
    done = run(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def store(tmp_path):
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    flags = ("--auth", "on", "--tls-cert-file", server.cert, "--tls-key-file", server.key)
    with StoreProcess(
        tmp_path / "data", tmp_path / "log", *map(str, flags), "--tls-client-ca-file", str(authority.ca_file)
    ) as process:
        process.environment = {
            "MULTILORA_STORE": process.address,
            "MULTILORA_CA_FILE": str(authority.ca_file),
            "MULTILORA_CERT_FILE": str(client.cert),
            "MULTILORA_KEY_FILE": str(client.key),
        }
        yield process


def test_from_the_first_token_to_a_revoked_one(store, tmp_path):
    first = ok("token", "create", "--tenant", "*", "--role", "admin", "--data-dir", tmp_path / "data")
    assert "cannot be shown again" in first.stderr
    operator = tmp_path / "operator.token"
    operator.write_text(first.stdout)
    again = run("token", "create", "--tenant", "*", "--role", "admin", "--data-dir", tmp_path / "data")
    assert (again.returncode, "operator's token already" in again.stderr) == (1, True)
    assert again.stderr.startswith("multilora token create: ")
    nowhere = run("token", "create", "--tenant", "*", "--role", "admin", "--database-url", "x")
    assert nowhere.returncode != 0
    assert "multilora token create: " in nowhere.stderr
    assert "first-token" not in again.stderr + nowhere.stderr

    as_operator = {**store.environment, "MULTILORA_TOKEN_FILE": str(operator)}
    made = json.loads(
        ok("token", "create", "--tenant", "acme", "--role", "admin", "--json", **as_operator).stdout
    )
    token_id, secret = made["token"]["token_id"], made["secret"]
    as_admin = {**store.environment, "MULTILORA_TOKEN": secret}

    refused = run("tenant", "update", "acme", "--max-adapters", "3", **as_admin)
    assert (refused.returncode, "operators" in refused.stderr) == (1, True)
    shown = ok("tenant", "update", "acme", "--max-adapters", "3", **as_operator).stdout
    assert "0 of 3" in shown
    ok("tenant", "update", "acme", "--trust", f"ci={'ab' * 32}", "--require-signatures", **as_admin)
    tenant = json.loads(ok("tenant", "show", "acme", "--json", **as_admin).stdout)
    assert (tenant["quotas"]["max_adapters"], tenant["require_signatures"]) == (3, True)
    assert "no tenant 'beta'" in run("tenant", "show", "beta", **as_admin).stderr

    listed = json.loads(ok("token", "list", "--tenant", "acme", "--json", **as_admin).stdout)
    assert [token["token_id"] for token in listed] == [token_id]
    entries = json.loads(ok("audit", "--tenant", "acme", "--json", **as_admin).stdout)
    assert [entry["action"] for entry in entries] == ["UpdateTenant", "UpdateTenant", "CreateToken"]
    assert entries[0]["actor"] == token_id
    tokens = ("audit", "--tenant", "acme", "--resource", f"tokens/{token_id}", "--json")
    [made_it] = json.loads(ok(*tokens, "--since", "2026-01-01", **as_admin).stdout)
    assert made_it["action"] == "CreateToken"
    assert json.loads(ok(*tokens, "--until", "2026-01-01 00:00", **as_admin).stdout) == []
    assert "end_time" in run("audit", "--since", "2026-01-02", "--until", "2026-01-01", **as_operator).stderr
    assert ok("list", **as_admin).stdout.startswith("no adapters")

    ok("token", "revoke", token_id, **as_operator)
    assert "was revoked" in run("list", **as_admin).stderr
    assert "NO_TOKEN" in run("list", **store.environment).stderr

    assert secret.encode() not in (tmp_path / "log").read_bytes()
    assert first.stdout.strip().encode() not in (tmp_path / "log").read_bytes()
