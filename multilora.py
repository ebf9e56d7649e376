"""What users import: `from multilora import InferenceClient, StoreClient`."""

from client import *  # noqa: F403
from client import __all__ as __all__
