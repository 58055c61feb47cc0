"""The campaign: real processes under random `kill -9`, and an oracle that compares key by key.

    python -m tests.chaos --kills 120 --seed 7 [--seeds 20] [--events 50000] [--seconds 60]
    [--control]

Producers, event workers, flush workers, beat, Redis and Postgres are killed, stopped and restarted
as a shuffled deck of cards says (`cards`), at random times or at named crash points before and
after each step (`points`). Between the processes and the servers stands a proxy that loses replies,
delays and half-closes (`proxy`). Producers write what they attempt and what was accepted to a log
(`account`); at the end every counter must lie between the two (`oracle`), those of quarter hours
and amounts too (`measures`), and a reader that asked all along must never have seen a count or a
sum fall or exceed (`reader`). Closed days are sealed all along, and events come to them all along.
`control` is the same load on plain Celery tasks and the stock transport: there the campaign must
find losses.

In reading order: `campaign`, `cards`, `stage`, `roles`, `zygote` (how a killed process is replaced
in milliseconds), `points`, `proxy`, `producer`, `senders`, `account`, `amounts`, `measures`,
`people`, `reader`, `oracle`, `report`, `control`.
"""
