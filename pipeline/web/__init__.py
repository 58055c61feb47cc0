"""Over HTTP: the collector that takes events from browsers and servers, the stats API, health.

`app.create_app` makes the one ASGI application of it, `main` puts it together from settings. The
collector depends on Redis alone; the stats API reads Postgres too.
"""
