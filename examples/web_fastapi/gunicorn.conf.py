"""gunicorn for the FastAPI example: processes of one event loop each, which serve all their readers."""

bind = "127.0.0.1:8000"
workers = 2
worker_class = "uvicorn_worker.UvicornWorker"
preload_app = True  # the application is loaded once, then forked; each process makes its own client
graceful_timeout = 10  # open streams are cut then; browsers come back behind their last event
