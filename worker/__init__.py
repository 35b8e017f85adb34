"""What every worker process shares: Celery's application, the settings, the runtime. It must not know any task."""
