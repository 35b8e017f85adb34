"""The operator's command `twinvec`. Each command is a module, loaded when it is called.

It must not know how anything is done: it asks the client, or starts what runs, and shows what came of it.
"""
