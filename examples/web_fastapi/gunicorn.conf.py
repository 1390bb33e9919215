"""gunicorn for the FastAPI example: processes with one event loop each, which serves all their readers."""

bind = "127.0.0.1:8000"
workers = 2
worker_class = "uvicorn_worker.UvicornWorker"
preload_app = True  # the application is loaded once, then forked; each process creates its own client
graceful_timeout = 10  # open streams are closed then; browsers reconnect and resume after their last event
