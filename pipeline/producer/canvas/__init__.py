"""Events in an application's own Celery: signatures, options, callbacks, and its workers."""
