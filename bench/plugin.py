"""pytest's way in to the fixture `paired`: `-p bench.plugin`, installed `-p mlr_bench.plugin`."""

from .paired.plugin import *  # noqa: F403  # the hooks and the fixture
