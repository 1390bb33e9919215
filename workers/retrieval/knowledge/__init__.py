"""Documents: what is added, how it is found, and the list of what there is."""
