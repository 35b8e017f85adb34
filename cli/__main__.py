"""`python -m cli` is `twinvec`; the stack starts its workers this way, whatever is on PATH."""

import gc

gc.disable()  # while modules are imported: it would look through all of them again and again, a third of the time

if __name__ == "__main__":  # a spawned pool process imports this module too, and needs no command
    from cli.main import main

    main()
