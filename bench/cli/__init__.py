"""The command line: one parser, and what the commands print."""
