"""Reads one JSON file of a model directory.

Must not know what the files mean; says which one is broken.
"""

import json
from pathlib import Path
from typing import Any

from services.common.errors import ServiceError, invalid_field


def read_model_json(model_dir: Path, name: str) -> dict[str, Any]:
    """The object in `model_dir`/`name`; empty if there is no such file. Raises ServiceError if broken."""
    try:
        value = json.loads((model_dir / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise broken_model_file(name, f"cannot be read in {model_dir}: {error}") from error
    if not isinstance(value, dict):
        raise broken_model_file(name, f"must hold a JSON object in {model_dir}")
    return value


def broken_model_file(name: str, message: str) -> ServiceError:
    """The file `name` of the model directory keeps the service from starting."""
    return invalid_field(name, message)
