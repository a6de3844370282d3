"""Two callables in a test -> is one slower? Decided over fresh processes that run the test."""
