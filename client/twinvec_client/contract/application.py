"""A Celery application that is what its caller says, whatever lies around: variables, modules, frameworks.

Celery itself prefers CELERY_BROKER_URL to the broker that a program names, and reads the configuration, the loader and
the framework of any other application in the same environment. It must not know lanes, messages or settings.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader


class ExplicitApplication(Celery):
    """Takes broker, result backend and configuration from its caller alone; the rest is Celery's."""

    builtin_fixups: set[str] = set()  # noqa: RUF012  # as Celery has it. DJANGO_SETTINGS_MODULE is of another application

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_read(url or self.conf["broker_url"], **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url or self.conf["broker_url"], **options)

    def connection(self, hostname: str | None = None, **options: Any) -> Any:  # type: ignore[override]  # by name
        return super().connection(hostname or self.conf["broker_url"], **options)

    def _get_backend(self) -> Any:
        self.backend_cls = self.conf["result_backend"]  # it is asked before CELERY_RESULT_BACKEND
        return super()._get_backend()  # type: ignore[misc]  # which the stubs do not know

    def _get_default_loader(self) -> type[AppLoader]:  # CELERY_LOADER
        return _Loader


class _Loader(AppLoader):
    def read_configuration(self, env: str = "") -> dict[str, Any]:  # CELERY_CONFIG_MODULE
        return {}

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:
        """Import a module from where Python finds it: the folder in which a user stands may hold one of that name."""
        return (imp or self.import_module)(module, package=package)
