"""What this machine is and how its processes are set: devices, environment, one run at a time."""
