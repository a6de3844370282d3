"""What the tests of mlr share."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def as_users_call_it() -> Iterator[None]:
    """Without the tests' own shape checker, which would be the first to speak."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
