"""gunicorn for the Flask example: each open stream holds a thread, so there are more threads than readers."""

bind = "127.0.0.1:8000"
workers = 2
worker_class = "gthread"
threads = 40  # per process: the largest number of readers, plus some threads for short requests
preload_app = True  # the application is loaded once, then forked; each process creates its own client
graceful_timeout = 10  # open streams are closed then; browsers reconnect and resume after their last event
