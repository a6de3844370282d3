"""Settings of a run -> flat text, to be compared and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as text, those inside others by a name with dots."""
    found: dict[str, str] = {}
    for key, value in sorted(settings.items()):
        if isinstance(value, dict) and value:
            found |= flatten_settings(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, str):
            found[f"{prefix}{key}"] = value or "–"
        else:
            found[f"{prefix}{key}"] = json.dumps(value)
    return found


flat = flatten_settings  # the name that the report and the comparison use so far
