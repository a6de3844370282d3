"""One module a command, under its name: nothing else lists them.

The first line of a module is its help, `add_arguments` its options, `run` what it does.
"""
