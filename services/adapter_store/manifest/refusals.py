"""The three ways to refuse an adapter. Each names the tensor or config key and says what to do."""

from services.adapter_store.domain.fields import quoted
from services.common.errors import Code, Reason, ServiceError


def malformed(field: str, message: str) -> ServiceError:
    """INVALID_ADAPTER: no LoRA adapter that could be served on any base model."""
    return _refusal(Code.INVALID_ARGUMENT, Reason.INVALID_ADAPTER, field, message)


def unsupported(field: str, message: str) -> ServiceError:
    """UNSUPPORTED_ADAPTER: an option or dtype that is not served."""
    return _refusal(Code.FAILED_PRECONDITION, Reason.UNSUPPORTED_ADAPTER, field, message)


def mismatch(field: str, message: str) -> ServiceError:
    """BASE_MODEL_MISMATCH: the adapter does not fit the base model."""
    return _refusal(Code.FAILED_PRECONDITION, Reason.BASE_MODEL_MISMATCH, field, message)


def _refusal(code: Code, reason: Reason, field: str, message: str) -> ServiceError:
    # Tensor names and config keys come from outside: only a short, printable form goes on.
    shown = quoted(field)[1:-1]
    return ServiceError(code, reason, f"{shown}: {message}", field=shown)
