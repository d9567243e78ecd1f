"""What is kept: SQLAlchemy models, sessions, the job queue in SQL and the reporting views."""
