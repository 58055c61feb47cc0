"""The pattern of a user's counters, as Redis understands it."""

from __future__ import annotations

import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.redis.keys import Keys, field_pattern

users = st.text(st.sampled_from("ab*?[]\\^-:% {}é\n"), min_size=1, max_size=5) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20
)


@given(st.lists(users, min_size=1, max_size=8, unique=True), st.sampled_from(["a:", "a-z.x_1:"]))
@example(["u", "u*", "u?", "[u]", "\\u", "[^u]", "[a-z]", "u1", "uu"], "a:")
@example(["*", "a"], "a:")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_the_pattern_of_a_user_finds_that_users_counters_and_no_others(
    client: redis.Redis, names: list[str], prefix: str
) -> None:
    keys = Keys(prefix)
    counters = {name: keys.user(name, "page_view", "2025-03-14").encode() for name in names}
    client.delete("pending")
    client.sadd("pending", *counters.values(), keys.daily(names[0], "2025-03-14"))
    client.expire("pending", 1_000)
    for name, counter in counters.items():
        found = list(client.sscan_iter("pending", match=keys.user_pattern(name), count=1_000))
        assert found == [counter]


@given(st.lists(users, min_size=1, max_size=8, unique=True))
@example(["u", "u*", "u?", "[u]", "\\u", "[^u]", "[a-z]", "u1", "uu"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_the_pattern_of_a_users_fields_finds_those_and_of_other_users_none(
    client: redis.Redis, names: list[str]
) -> None:
    keys = Keys()
    fields = {name: keys.user(name, "page_view", "2025-03-14") for name in names}
    fields = {name: keys.field_in_bucket(field) for name, field in fields.items()}
    client.delete("bucket")
    client.hset("bucket", mapping=dict.fromkeys(fields.values(), 1))
    client.hset("bucket", "pad", "." * 100)
    client.expire("bucket", 1_000)
    for name, field in fields.items():
        found = [one.decode() for one, _ in client.hscan_iter("bucket", field_pattern(name))]
        assert found == [field]
