"""The queue in SQL: jobs, batches, leases and failures. It may use `db.vectors`; it must not know Celery's messages."""
