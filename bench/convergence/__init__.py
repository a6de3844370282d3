"""Fresh processes, each trainer to a target loss -> a stored run -> what a report tells of it."""
