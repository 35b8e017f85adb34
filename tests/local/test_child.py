"""What a killed worker leaves in its temporary folder is gone when it is restarted."""

from pathlib import Path

import psutil
from sqlalchemy import make_url

from db.engine import connect
from db.schema import migrate
from local.child import Child
from local.servers import Servers
from tests.makers import eventually


def test_temporary_folders_of_a_killed_worker_are_swept_when_it_is_restarted(home: Path) -> None:
    temporary = home / "run" / "tmp" / "intake"
    with Servers(home) as servers:
        engine = connect(make_url(servers.database_url).set(drivername="postgresql+psycopg").render_as_string(False))
        migrate(engine)
        engine.dispose()
        urls = {"TWINVEC_BROKER_URL": servers.broker_url, "TWINVEC_DATABASE_URL": servers.database_url}
        worker = Child("intake", home, urls | {"TWINVEC_HOME": str(home)})
        worker.start()
        try:
            eventually(worker.ready, "a worker", seconds=60)
            left = set(temporary.iterdir())
            assert left, "it needs a temporary folder, and makes it here"
            family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
            for process in family:
                process.kill()
            eventually(lambda: worker.restart_if_dead() is not None, "its restart", seconds=60)
            eventually(worker.ready, "a worker", seconds=60)
            assert not left & set(temporary.iterdir())
            assert len(set(temporary.iterdir())) == len(left)
        finally:
            for process in psutil.Process(worker.pid).children(recursive=True):
                process.kill()
            psutil.Process(worker.pid).kill()
