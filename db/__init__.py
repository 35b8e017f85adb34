"""The ledger: what is stored and how it changes. Knows nothing of Celery, pictures or towers' insides.

Functions here take a `Session` and never make, commit or close one, but for `engine` and `schema`, which do just that.
"""
