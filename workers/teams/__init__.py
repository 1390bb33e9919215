"""Teams and delegation: turns that wait for the turns of their tasks."""
