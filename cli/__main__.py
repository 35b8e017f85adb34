"""`python -m cli` is `twinvec`; the stack starts its workers this way, whatever is on PATH."""

import gc

gc.disable()  # while modules are imported: it would look through all of them again and again, a third of the time

from cli.main import main  # noqa: E402  # after that

if __name__ == "__main__":  # a spawned pool process imports this module too
    main()
