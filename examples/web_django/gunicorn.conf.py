"""gunicorn for the Django example: each open stream holds a thread, so there are more threads than readers."""

bind = "127.0.0.1:8000"
workers = 2
worker_class = "gthread"
threads = 40  # in each process: the most readers it serves, and some for short requests
preload_app = True  # the application is loaded once, then forked; each process makes its own client
graceful_timeout = 10  # open streams are cut then; browsers come back behind their last event
