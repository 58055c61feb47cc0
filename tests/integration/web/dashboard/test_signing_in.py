import time

import httpx
import pytest

from pipeline.services import Services
from tests.helpers.api_server import NO_TLS
from tests.helpers.support import Workers, eventually
from tests.helpers.web_process import WebProcess
from tests.integration.web.dashboard.conftest import DashboardSite, sign_in


def name_cookie(site: DashboardSite) -> str:
    return f"analytics-session-{httpx.URL(site.origin).port}"


def test_the_root_leads_to_the_dashboard_and_that_to_the_form(site: DashboardSite) -> None:
    answer = site.stranger.get("/", follow_redirects=True)
    assert answer.url.path == "/dashboard/sign-in"
    assert "Read token" in answer.text
    assert site.stranger.get("/dashboard/").headers["location"] == "/dashboard"
    wanted = site.stranger.get("/dashboard?range=7d")
    assert wanted.headers["location"] == "/dashboard/sign-in?next=/dashboard%3Frange%3D7d"


def test_the_cookie_is_neither_the_token_nor_readable_by_scripts(site: DashboardSite) -> None:
    cookie = sign_in(site.stranger, site.token).headers["set-cookie"]
    assert cookie.startswith(f"{name_cookie(site)}=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert site.token.split("_")[2] not in cookie
    assert "Secure" not in cookie  # plain loopback


def test_over_tls_and_on_other_hosts_the_cookie_is_bound_to_host_and_tls(
    site: DashboardSite,
) -> None:
    host = {"Host": "stats.example", "Origin": "https://stats.example"}
    cookie = sign_in(site.stranger, site.token, **host).headers["set-cookie"]
    assert cookie.startswith("__Host-analytics-session=")
    assert "Secure" in cookie.split("; ")
    assert "Domain" not in cookie


def test_a_wrong_token_is_said_so(site: DashboardSite) -> None:
    for wrong in ("", "rt_x_y", site.token[:-1], "wk" + site.token[2:]):
        answer = sign_in(site.stranger, wrong)
        assert answer.status_code == 401
        assert "no valid read token" in answer.text
        assert "set-cookie" not in answer.headers


def test_a_session_ends_within_seconds_of_its_token(site: DashboardSite) -> None:
    assert site.viewer.get("/dashboard").status_code == 200
    site.dependencies.access_keys.revoke(site.token_id)
    began_s = time.monotonic()
    eventually(lambda: site.viewer.get("/dashboard").status_code == 303, 6)
    assert time.monotonic() - began_s < 5


def test_signing_out_ends_the_session_for_whoever_has_its_cookie(site: DashboardSite) -> None:
    text = site.viewer.cookies[name_cookie(site)]
    answer = site.viewer.post("/dashboard/sign-out", headers={"Origin": site.origin})
    assert answer.status_code == 303
    assert site.sessions.find(text) is None
    cookie = f"{name_cookie(site)}={text}"
    again = site.stranger.get("/dashboard", headers={"Cookie": cookie})
    assert again.status_code == 303


def test_installations_beside_each_other_on_a_machine_have_a_cookie_each(
    site: DashboardSite,
) -> None:
    text = site.viewer.cookies[name_cookie(site)]
    others = f"analytics-session-1=of-another; analytics-session={text}"
    # The name of before, without a port, is read on where there is no other.
    assert site.stranger.get("/dashboard", headers={"Cookie": others}).status_code == 200
    both = f"analytics-session=of-another; {name_cookie(site)}={text}"
    assert site.stranger.get("/dashboard", headers={"Cookie": both}).status_code == 200


@pytest.mark.parametrize("host", ["[", "127.0.0.1:x", "127.0.0.1:99999", "", "a b"])
def test_a_host_that_is_none_is_no_fault(site: DashboardSite, host: str) -> None:
    for path in ("/dashboard", "/dashboard/sign-in"):
        assert site.viewer.get(path, headers={"Host": host}).status_code < 500
    answer = sign_in(site.stranger, site.token, Host=host)
    assert answer.status_code < 500


def test_a_link_signs_in_once(site: DashboardSite) -> None:
    path = f"/dashboard/sign-in/{site.sessions.make_sign_in(site.token_id)}"
    assert site.stranger.head(path).status_code == 200  # a look at it does not use it up
    assert site.stranger.get(path).headers["location"] == "/dashboard"
    assert site.stranger.get("/dashboard").status_code == 200
    with httpx.Client(base_url=site.origin) as other:
        assert other.get(path).status_code == 401


@pytest.mark.parametrize("wanted", ["https://evil.example", "//evil.example", "/dashboard\\..", ""])
def test_signing_in_leads_to_no_other_site(site: DashboardSite, wanted: str) -> None:
    form = {"token": site.token, "next": wanted}
    answer = site.stranger.post("/dashboard/sign-in", data=form, headers={"Origin": site.origin})
    assert answer.headers["location"] == "/dashboard"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "SELF", "Host": "stats.example"},
        {"Origin": "https://evil.stats.example", "Host": "stats.example"},
        {"Origin": "https://stats.example:8443", "Host": "stats.example"},
        {"Origin": "https://stats.example.evil", "Host": "stats.example"},
        {"Origin": "https://stats.example@evil.example", "Host": "stats.example"},
        {"Origin": "SELF", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "SELF", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_sites_are_refused(site: DashboardSite, headers: dict[str, str]) -> None:
    sent = {name: site.origin if value == "SELF" else value for name, value in headers.items()}
    for path in ("/dashboard/sign-in", "/dashboard/sign-out"):
        answer = site.viewer.post(path, data={"token": site.token}, headers=sent)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert site.viewer.get("/dashboard").status_code == 200


def test_a_page_without_tls_is_another_site_to_a_browser_that_came_with_it(
    site: DashboardSite,
) -> None:
    with httpx.Client(base_url=site.origin) as browser:
        host = {"Host": "stats.example"}
        found = sign_in(browser, site.token, **host, Origin="https://stats.example:443")
        assert found.status_code == 303  # with the port that goes without saying
        cookie = found.headers["set-cookie"].partition(";")[0]
        sent = {**host, "Cookie": cookie}
        for origin, status in (("http://stats.example", 403), ("https://stats.example", 303)):
            answer = browser.post("/dashboard/sign-out", headers={**sent, "Origin": origin})
            assert answer.status_code == status


def test_the_real_web_server_signs_in_and_out(workers: Workers, services: Services) -> None:
    web = WebProcess(workers).start()
    from pipeline.access.key_store import AccessKeyStore

    access = AccessKeyStore(services.redis, services.keys)
    key, token = access.create("read", "reader")
    with httpx.Client(base_url=web.origin, timeout=30, verify=NO_TLS) as browser:
        assert sign_in(browser, token).status_code == 303
        page = browser.get("/dashboard")
        assert page.status_code == 200
        assert "unsafe" not in page.headers["content-security-policy"]
        access.revoke(key.id)
        eventually(lambda: browser.get("/dashboard").status_code == 303, 6)
    assert token not in web.said()
