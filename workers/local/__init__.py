"""The servers of a default install: a Postgres and a Valkey that pip installed, owned by one process."""
