"""What a service makes of its ServerSettings: TLS credentials, and what it says at start of who may call.

Must not know any service.
"""

import logging

import grpc

from services.common.server_settings import ServerSettings
from services.common.tls import TlsFiles, server_credentials
from services.common.tracing import Tracing

log = logging.getLogger(__name__)


def credentials_of(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """TLS as the settings say; None is plain text. Raises OSError if a file is no good."""
    cert, key = settings.tls_cert_file, settings.tls_key_file
    if cert is None or key is None:
        return None
    return server_credentials(TlsFiles(cert, key, settings.tls_client_ca_file))


def open_tracing(settings: ServerSettings, service: str) -> Tracing:
    """Spans to the collector of `settings`; to nobody, and without the exporter, if there is none."""
    if not settings.otlp_endpoint:
        return Tracing()
    from services.common.otlp_spans import OtlpSpans

    return Tracing(OtlpSpans(settings.otlp_endpoint, service), settings.trace_ratio)


def say_who_may_call(settings: ServerSettings, address: str) -> None:
    """One line in the log: a warning where anybody may do anything."""
    certificate = " with a certificate of the client CAs" if settings.tls_client_ca_file else ""
    if settings.is_guarded:
        log.info("access control is on: calls to %s need a token%s", address, certificate)
    else:
        log.warning(
            "access control is off: whoever reaches %s%s may read and change everything (--auth on)",
            address,
            certificate,
        )
