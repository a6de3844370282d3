"""The tables of `results/README.md`, made of the columns as they are declared.

PYTHONPATH=. python tests/helpers/column_tables.py
"""

from bench.store.columns import FRAME, SAMPLE


def column_tables() -> str:
    """Return the columns of the frame, and those of a sample."""
    titles = {"in the frame, and of a benchmark in a run file": FRAME.values()}
    tables = []
    for title, columns in (titles | {"of one sample": SAMPLE}).items():
        rows = [f"| `{column.name}` | {column.meaning} |" for column in columns]
        tables.append("\n".join([f"| {title} | |", "| --- | --- |", *rows]))
    return "\n\n".join(tables)


if __name__ == "__main__":
    print(column_tables())
