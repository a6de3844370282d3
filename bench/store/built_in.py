"""What a run file does not say of the operations and kernels of mlr, out of `built_in.toml`."""

import tomllib
from importlib.resources import files

_KNOWN = tomllib.loads((files(__package__) / "built_in.toml").read_text(encoding="utf-8"))
ITERATIVE: frozenset[str] = frozenset(_KNOWN["iterative"])
SAME_CALLABLE: dict[str, str] = _KNOWN["same_callable"]
