"""The Celery tasks: each is one line, its work a plain function beside it. A task must not hold SQL or model code."""
