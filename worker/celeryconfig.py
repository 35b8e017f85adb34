"""Celery's configuration as an object with a name.

Celery imports it on first use, in the children of a spawned pool too: what is handed to an application in any other
way does not reach them. Importing it reads the settings, so nothing else does.
"""

from worker.settings import Settings

CELERY = Settings().celery()
