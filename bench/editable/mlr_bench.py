"""What the script `mlr-bench` of an editable install finds: the suite by its name in a checkout."""

from bench import main as main
