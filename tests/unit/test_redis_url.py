"""Redis URLs: those of redis-py mean the same to store and broker, or are refused without a piece of the password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from broker_config.celery_app import FleetApp
from broker_config.redis_clients import async_store, sync_store
from broker_config.redis_url import RedisUrl, without_secrets
from broker_config.settings import Settings, SettingsError, load_settings
from tests.support.servers import Server, running

SECRET = "geheim/ ?#[]@:%;&+ä"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with a password, a user and a unix socket."""
    folder = tmp_path_factory.mktemp("guarded")
    socket = ("--unixsocket", str(folder / "r.sock"))
    with running(Server(folder, options=("--requirepass", SECRET, *socket), password=SECRET)) as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "u:ser", "on", f">{SECRET}", "~*", "&*", "+@all")
        yield server


FORMS = [
    "redis://:{secret}@127.0.0.1:{port}",
    "redis://:{secret}@127.0.0.1:{port}/3",
    "redis://:{secret}@127.0.0.1:{port}?db=3",
    "redis://:{secret}@127.0.0.1:{port}/1?db=3",
    "redis://127.0.0.1:{port}/3?password={secret}",
    "redis://127.0.0.1:{port}?db=3&username=u%3Aser&password={secret}",
    "redis://u%3Aser:{secret}@localhost:{port}/3?socket_timeout=5&socket_keepalive=yes&health_check_interval=10",
    "redis://u%3Aser:{secret}@127.0.0.1:{port}/3?client_name=x&socket_connect_timeout=2&max_connections=9",
    "unix://{path}?db=3&password={secret}",
    "unix://:{secret}@{path}?db=3",
    "unix://u%3Aser:{secret}@{path}",
    "redis+socket://:{secret}@{path}?virtual_host=3",
]


@pytest.mark.parametrize("form", FORMS)
async def test_store_and_broker_understand_the_same_urls(guarded: Server, form: str) -> None:
    """A wake-up that is published at a URL is found where redis-py finds what it stores there."""
    url = form.format(secret=quote(SECRET, safe=""), port=guarded.port, path=guarded.folder / "r.sock")
    settings = Settings(redis_url=url if not url.startswith("redis+") else None, broker_url=url)
    with FleetApp("test", settings, set_as_current=False).connection_for_write() as connection:
        connection.SimpleQueue("turns").put("x")
        assert SECRET not in (shown := connection.as_uri())
        assert quote(SECRET, safe="") not in shown
    with guarded.client() as client:
        client.select(RedisUrl.parse(url).db)
        assert client.llen("sf:broker:turns") == 1
        client.flushdb()
    if settings.redis_url is not None:
        store = async_store(settings)
        await store.set("here", "1")
        assert sync_store(settings).get("here") == b"1"
        await store.aclose()


PIECE = "geh3im"
REFUSED = [
    ("redis://:a{p}/b@h:6379/0", "percent-encode"),
    ("redis://:{p}#1@h:6379/0", "percent-encode"),
    ("redis://:12#{p}@h:6379/0", "percent-encode"),
    ("redis://:12?{p}@h:6379/0", "percent-encode"),
    ("redis://:12?{p}=x@h:6379/0", "percent-encode"),
    ("redis://:12/{p}@h:6379/0", "percent-encode"),
    ("redis://:{p}[@h:6379/0", "percent-encode"),
    ("redis://:{p}\u2100@h:6379/0", "percent-encode"),
    ("redis://:{p} x@h:6379/0", "percent-encode"),
    ("redis://h?password=a&{p}", "percent-encode"),
    ("redis://h?password=a&{p}=1", "percent-encode"),
    ("redis://h?password={p}#x", "percent-encode"),
    ("unix://:a/{p}@/run/r.sock", "percent-encode"),
    ("unix://run/redis.sock", "unix:///run/redis.sock"),
    ("redis://h:0/0", "65535"),
    ("redis://h:66666/0", "65535"),
    ("redis://h/shop", "number of a database"),
    ("redis://h/1/2", "number of a database"),
    ("redis://h?db=x", "'db'"),
    ("redis://h?db=-1", "'db'"),
    ("redis://h?protocol=2", "'protocol'"),
    ("redis://h?decode_responses=1", "'decode_responses'"),
    ("redis://h?ssl_cert_reqs=none", "rediss://"),
    ("rediss://h?ssl_cert_reqs=perhaps", "required, optional, none"),
    ("amqp://u:{p}@h", "begins with redis://"),
    ("localhost:6379", "begins with redis://"),
]


@pytest.mark.parametrize(("url", "says"), REFUSED)
@pytest.mark.parametrize("name", ["REDIS_URL", "SESSIONFLEET_BROKER_URL"])
def test_a_url_that_cannot_be_used_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, says: str
) -> None:
    """At start-up, with what to do, and without a piece of what may be the password."""
    monkeypatch.setenv(name, url.format(p=PIECE))
    load_settings.cache_clear()
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert name in str(caught.value)
    assert says in str(caught.value)
    assert PIECE not in f"{caught.value!r} {caught.value.__cause__}"


def test_the_address_of_the_index_shows_no_password_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib quotes the part of the password that it takes for a port."""
    monkeypatch.setenv("QDRANT_URL", f"http://u:{PIECE}/x@h:6333")
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match=r"QDRANT_URL.*percent-encode") as caught:
        load_settings()
    assert PIECE not in f"{caught.value!r} {caught.value.__cause__}"


def test_our_own_variable_names_the_broker_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """CELERY_BROKER_URL may be another application's; it counts where ours is not set, and then is named."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://theirs/1")
    load_settings.cache_clear()
    assert load_settings().broker_url == "redis://theirs/1"
    for ours in ("redis://ours/2", ""):
        monkeypatch.setenv("SESSIONFLEET_BROKER_URL", ours)
        load_settings.cache_clear()
        assert load_settings().broker_url == (ours or None)
    monkeypatch.delenv("SESSIONFLEET_BROKER_URL")
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://theirs")
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match=r"setting CELERY_BROKER_URL.*set SESSIONFLEET_BROKER_URL"):
        load_settings()


def test_celery_reads_no_broker_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery prefers these variables to its application's configuration; ours goes by our settings."""
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.setenv(name, "redis://theirs/1")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "nosuch://theirs")
    app = FleetApp("test", Settings(redis_url="redis://ours/0", broker_url="redis://ours/2"), set_as_current=False)
    shown = [c.as_uri() for c in (app.connection(), app.connection_for_read(), app.connection_for_write())]
    assert shown == ["redis://ours:6379/2"] * 3
    assert type(app.backend).__name__ == "DisabledBackend"


def test_certificates_are_checked_unless_the_url_says_otherwise() -> None:
    """kombu would not check them unless told to."""
    assert _tls("rediss://h") == {"ssl_cert_reqs": "required"}
    assert _tls("rediss://h?ssl_ca_certs=/ca.pem") == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
    assert _tls("rediss://h?ssl_cert_reqs=none") == {"ssl_cert_reqs": "none"}


def _tls(url: str) -> object:
    return FleetApp("test", Settings(redis_url=url), set_as_current=False).conf.broker_use_ssl


def test_a_cluster_is_no_broker() -> None:
    """kombu knows no cluster; the error names the setting. And a cluster has one database."""
    with pytest.raises(SettingsError, match="SESSIONFLEET_BROKER_URL"):
        FleetApp("test", Settings(redis_url="redis://h", redis_cluster=True), set_as_current=False)
    with pytest.raises(ValueError, match="one database"):
        Settings(redis_url="redis://h/1", redis_cluster=True)


@pytest.mark.parametrize("show", [repr, str])
def test_settings_show_no_secrets(show: object, tmp_path: Path) -> None:
    """Settings end up in logs and tracebacks; each address and each key in them is shown without its secret."""
    secrets = {
        "redis_url": f"redis://u:{PIECE}@h/0",
        "broker_url": f"redis://h/0?password={PIECE}",
        "qdrant_url": f"https://u:{PIECE}@h:6333",
        "qdrant_api_key": PIECE,
        "gateway_jwks": f"https://u:{PIECE}@h/jwks?token={PIECE}",
        "encryption_keys": "k1:" + "A" * 43 + "=",
        "webhook_secrets": "whsec_" + "A" * 43 + "=",
    }
    shown = show(Settings(home=tmp_path, **secrets))  # type: ignore[operator]
    assert PIECE not in shown
    assert "AAAA" not in shown
    assert "redis://**@h/0" in shown


@pytest.mark.parametrize(
    "user", [f":{PIECE}@", f"{PIECE}@", f"u:{PIECE}@", f":{PIECE}/@", f":x#{PIECE}@", f":1?{PIECE}@"]
)
@pytest.mark.parametrize("scheme", ["redis", "sentinel", "redis+sentinel", "http"])
def test_no_address_is_shown_with_its_secrets(scheme: str, user: str) -> None:
    """This includes lists of sentinels and unencoded passwords."""
    for url in (f"{scheme}://{user}h", f"{scheme}://{user}h1:1,h2:2/0", f"{scheme}://{user}h1;{scheme}://{user}h2/0"):
        assert PIECE not in without_secrets(url)
    assert without_secrets("redis://:x@h:1/0") == "redis://**@h:1/0"


def test_what_is_no_url_is_hidden_whole() -> None:
    """A part of it could be a part of a password."""
    assert without_secrets(f"redis://:{PIECE}[@h") == "**"
