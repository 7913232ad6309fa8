"""Everything that happened, in a database, over HTTP."""
