"""pytest's way in: what `pytest bench` finds here is the plugin of `bench.run`."""

from .cli.session import pytest_terminal_summary
from .run.plugin import (
    measure,
    pytest_addoption,
    pytest_benchmark_update_json,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_generate_tests,
    pytest_report_header,
    pytest_runtestloop,
)

__all__ = [
    "measure",
    "pytest_addoption",
    "pytest_benchmark_update_json",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_report_header",
    "pytest_runtestloop",
    "pytest_terminal_summary",
]
