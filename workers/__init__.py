"""Where it comes together: the Celery application and its tasks, the admin CLI and the local supervisor."""
