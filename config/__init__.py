"""How an installation of the pipeline is set up: settings, Celery's options, schedule, logging."""
