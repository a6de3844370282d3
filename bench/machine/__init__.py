"""What this machine is and how its processes are set: processor, environment, one run at a time."""
