"""Whether everything that the pipeline stands on is as it should be: one check, one line.

In reading order: `check` (what was found), `redis_server`, `redis_rights`, `postgres_server`,
`one_moment` (both), `files`.
"""
