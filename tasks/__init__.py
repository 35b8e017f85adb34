"""The Celery tasks: each is one line, its work a plain function beside it. It must not know the command."""
