"""The page in the browser, an application like any other: of Twinvec it knows the client alone."""
