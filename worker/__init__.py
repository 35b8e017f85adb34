"""The running half: Celery's application, its settings, what a process holds, and the embedded servers."""
