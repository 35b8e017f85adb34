"""The queue in SQL: jobs, batches, leases and failures. It stands above the vectors, and knows no message."""
