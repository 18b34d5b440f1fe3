"""What networks are trained for: a task is one object of data, head, loss and metric, and all that differs is in it."""
