"""Settings of both services about who may reach and call them: access control, TLS, and what goes without.

Must not know gRPC: `services.common.tls` reads the files.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from services.common.settings import parse_address, setting


# Without slots, so that it can stand beside another base that has them.
@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """To be inherited beside a service's own settings; `check_exposure` from their __post_init__."""

    auth: str = setting(
        "off", help="on: every call needs a token; off: anybody may do anything", choices=("on", "off")
    )
    tls_cert_file: Path | None = setting(None, help="PEM of the server's certificate chain: turns TLS on")
    tls_key_file: Path | None = setting(None, help="PEM of the certificate's key")
    tls_client_ca_file: Path | None = setting(
        None, help="PEM of CAs: only clients with a certificate of theirs may connect"
    )
    allow_remote: bool = setting(
        False, help="listen on other than loopback though access control or TLS is off"
    )

    metrics_port: int | None = setting(
        None, help="serve Prometheus metrics on this port, 0 takes any free one; default: none"
    )
    metrics_host: str = setting(
        "127.0.0.1",
        help="address for --metrics-port; another than loopback tells tenants' names to whoever reaches it",
    )

    otlp_endpoint: str = setting(
        "",
        help="http://HOST:PORT of an OpenTelemetry collector that takes spans by gRPC (https: TLS)",
        variable="OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    trace_ratio: float = setting(1.0, help="share of calls that begin a trace where their caller has none")
    log_format: str = setting("text", help="lines of text, or of JSON", choices=("text", "json"))

    @property
    def is_guarded(self) -> bool:
        """Whether callers need a token."""
        return self.auth == "on"

    def check_exposure(self, listen: str) -> None:
        """Raises ValueError naming the flag if strangers could reach what is open, or TLS is half given."""
        host, _ = parse_address(listen)
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("--tls-cert-file, --tls-key-file: give both or neither")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("--tls-client-ca-file: needs --tls-cert-file and --tls-key-file")
        self._check_telemetry()
        for flag in ("tls_cert_file", "tls_key_file", "tls_client_ca_file"):
            path = getattr(self, flag)
            if path is not None and not path.is_file():
                raise ValueError(f"--{flag.replace('_', '-')}: {path} is not a file")
        if is_loopback(host) or self.allow_remote or (self.is_guarded and self.tls_cert_file is not None):
            return
        off = "access control is off" if not self.is_guarded else "tokens would travel in plain text"
        raise ValueError(
            f"--listen: {listen} is reachable from other machines, and {off}: listen on 127.0.0.1, turn on "
            "--auth on and --tls-cert-file, or say --allow-remote if the network keeps strangers out"
        )

    def _check_telemetry(self) -> None:
        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("http://", "https://")):
            raise ValueError(f"--otlp-endpoint: {self.otlp_endpoint} must begin with http:// or https://")
        if not 0 <= self.trace_ratio <= 1:
            raise ValueError(f"--trace-ratio: must be from 0 to 1, not {self.trace_ratio}")
        if self.metrics_port is not None and not 0 <= self.metrics_port < 1 << 16:
            raise ValueError(f"--metrics-port: {self.metrics_port} is no port: give 0 to 65535")
        if self.metrics_host != "localhost" and not _is_address(self.metrics_host):
            raise ValueError(
                f"--metrics-host: {self.metrics_host!r} is no address, such as 127.0.0.1 or 0.0.0.0"
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
