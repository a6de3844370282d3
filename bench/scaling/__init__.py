"""Workers of torchrun -> a stored scaling run -> what a report tells of it."""
