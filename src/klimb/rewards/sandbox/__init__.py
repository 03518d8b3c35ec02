"""A place where code of unknown origin runs: what it may reach, how it ends, and what is believed of it."""
