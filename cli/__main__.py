"""`python -m cli` is `twinvec`; the stack starts its workers this way, whatever is on PATH."""

from cli.main import main

if __name__ == "__main__":  # a spawned pool process imports this module too
    main()
