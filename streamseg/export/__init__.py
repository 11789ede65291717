"""Results in the form that the next tool reads."""
