"""All settings, read from the environment (or a `.env` file beside manage.py). README.md has the table."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import environ
from django.core.management.utils import get_random_secret_key
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as lazy

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
if (BASE_DIR / ".env").exists():
    environ.Env.read_env(BASE_DIR / ".env")
os.umask(0o077)  # what we write is for this user alone


def _seconds(name: str, default: float) -> timedelta:
    return timedelta(seconds=env.float(name, default=default))


# ---- files -----------------------------------------------------------------------------------------------------
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var"))).resolve()
DEVICES_DIR = VAR_DIR / "devices"
MEDIA_DIR = VAR_DIR / "media"
LOG_DIR = VAR_DIR / "log"
RUN_DIR = VAR_DIR / "run"
STATIC_ROOT = VAR_DIR / "static"


def _make_folders() -> None:
    try:
        for folder in (VAR_DIR, DEVICES_DIR, MEDIA_DIR, LOG_DIR, RUN_DIR, STATIC_ROOT):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # of two processes that start together one is faster
    except OSError as error:
        sys.exit(
            f"waserver cannot write to {VAR_DIR} ({error.strerror}). "
            "Make that folder writable for this user, or set VAR_DIR to one that is."
        )


def _secret_key() -> str:
    """Return the key from SECRET_KEY, else from var/secret_key, made on the first run."""
    key: str = env.str("SECRET_KEY", default="")
    if key:
        return key
    file = VAR_DIR / "secret_key"
    try:
        # "x": of two processes that start together only one writes, the other reads.
        with file.open("x") as handle:
            file.chmod(0o600)
            handle.write(get_random_secret_key())
    except FileExistsError:
        pass
    return file.read_text()


_make_folders()
SECRET_KEY = _secret_key()
SALT_KEY = "waserver"  # separates the keys derived from SECRET_KEY by purpose; not a secret
DEBUG = env.bool("DEBUG", default=False)

# ---- web -------------------------------------------------------------------------------------------------------
PORT = env.int("PORT", default=8000)
BIND = env.str("BIND", default="127.0.0.1")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", default=False)  # behind a proxy that ends TLS and sets X-Forwarded-Proto
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=365 * 24 * 3600) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.bool("HSTS_SUBDOMAINS", default=False)
# HSTS for subdomains and its preload list bind a whole domain, which is not ours to decide: HSTS_SUBDOMAINS.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
X_FRAME_OPTIONS = "DENY"
# Alpine.js, which unfold is built on, evaluates the expressions in its attributes: hence 'unsafe-eval', for scripts of
# our own origin. No 'unsafe-inline' anywhere.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'", "'unsafe-eval'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
SITE_URL = env.str("SITE_URL", default=f"http://{BIND}:{PORT}").rstrip("/")  # as staff reach it: links in alerts
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")  # lets /metrics be read from elsewhere than this machine

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin.apps.SimpleAdminConfig",  # see waserver.pages
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "ninja",
    "channels",
    "django_q",
    "encrypted_fields",
    "csp",
    "auditlog",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "accounts",
    "sessions_app",
    "messaging",
    "monitoring",
    "waserver",
]
MIDDLEWARE = [
    "monitoring.endpoints.endpoints",
    "messaging.api.middleware.for_programs",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "auditlog.middleware.AuditlogMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "waserver.two_factor.Demand",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
#: What a request under /api/ passes instead, outermost first. All of it on one thread: see messaging.api.handler.
API_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "monitoring.middleware.count_requests",
]
ROOT_URLCONF = "waserver.urls"
ASGI_APPLICATION = "waserver.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
LOGIN_URL = "admin:login"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
#: Wrong passwords from one address for one name before it has to wait.
AXES_FAILURE_LIMIT = env.int("LOGIN_FAILURES", default=10)
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "waserver.addresses.client_ip"
AXES_LOCKOUT_TEMPLATE = "waserver/locked.html"
AXES_RESET_ON_SUCCESS = AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
TWO_FACTOR = env.str("TWO_FACTOR", default="optional")  # or "required": of all staff
OTP_TOTP_ISSUER = "waserver"
AUDITLOG_CID_HEADER = None
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

# ---- database, cache, channel layer, task queue -----------------------------------------------------------------
LEASE = _seconds("LEASE", 30)
LEASE_RENEWAL = _seconds("LEASE_RENEWAL", 10)
DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'waserver.sqlite3'}")}
_database = DATABASES["default"]
_database.setdefault("CONN_MAX_AGE", 600 if _database["ENGINE"].endswith("sqlite3") else 60)  # a file stays
if _database["ENGINE"].endswith("sqlite3"):
    _database["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}  # a file: threads and other processes use it too
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # KB of pages each connection keeps: with SQLite's own 2 MB the web process grew as the file did, by 1 % an hour
        # (bench/memory.py); the kernel keeps the file for all of them.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-512",
    }
else:
    _database["CONN_HEALTH_CHECKS"] = True
    if _database["ENGINE"].endswith("mysql"):
        _database["ENGINE"] = "waserver.mysql"
        _database["OPTIONS"] = {
            "charset": "utf8mb4",
            "isolation_level": "read committed",
            # Nobody waits for a lock so long that it cannot renew its leases, and a machine cut off inside a
            # transaction holds its locks no longer than its leases. The latter is for MariaDB: MySQL has no such limit.
            "init_command": f"SET SESSION innodb_lock_wait_timeout = {max(1, LEASE // timedelta(seconds=3))}"
            f" /*M! , idle_transaction_timeout = {max(1, LEASE // timedelta(seconds=1))} */",
        }
        _database["TEST"] = {"CHARSET": "utf8mb4"}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DEVICE_STORE_URL = env.str("DEVICE_STORE_URL", default="")

REDIS_URL = env.str("REDIS_URL", default="")
Q_CLUSTER = {
    "name": "waserver",
    "label": "Jobs",
    "workers": env.int("CLUSTER_WORKERS", default=1),
    "recycle": 200,
    "timeout": 300,
    "retry": 600,
    "max_attempts": 1,
    "catch_up": False,
    "save_limit": 20,  # each job reads them all; how jobs went is in Job
    # Seconds. Nothing is planned more often than every 30, and an alert may take 5 more; 30 must be a multiple of it.
    "poll": 5.0,
    "guard_cycle": 5,
    "ack_failures": True,
}
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
    }
    CACHES = {"default": {"BACKEND": "accounts.cache.CountingRedis", "LOCATION": REDIS_URL,
                          "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1}}}  # fmt: skip
    Q_CLUSTER["redis"] = REDIS_URL
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    Q_CLUSTER["orm"] = "default"

# ---- language and time ------------------------------------------------------------------------------------------
LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en")
LANGUAGES = [("en", "English"), ("id", "Bahasa Indonesia")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_I18N = USE_TZ = True
PHONE_REGION = env.str("PHONE_REGION", default="ID")  # for numbers written without a country code

# ---- WhatsApp ---------------------------------------------------------------------------------------------------
WHATSAPP_CLIENT = env.str("WHATSAPP_CLIENT", default="sessions_app.whatsapp.neonize_client.NeonizeWhatsApp")
WHATSAPP_LIBRARY = env.str("WHATSAPP_LIBRARY", default="")
WHATSAPP_PROXY = env.str("WHATSAPP_PROXY", default="")

HOSTS = env.int("HOSTS", default=1)
HOST_CAPACITY = env.int("HOST_CAPACITY", default=50)
HOST_REGION = env.str("HOST_REGION", default="")
HOST_CONCURRENT_STARTS = env.int("HOST_CONCURRENT_STARTS", default=8)
HOST_STARTS_PER_SECOND = env.float("HOST_STARTS_PER_SECOND", default=4.0)
#: Added to the niceness of a host: pages and the API come first when many sessions start at once on few cores. No more
#: than this: what the API accepts all day has to be sent, too.
HOST_NICE = env.int("HOST_NICE", default=2)
HOST_POLL = _seconds("HOST_POLL", 0.5)
#: What lives in the session host beside it; see sessions_app/host/extension.py.
HOST_EXTENSIONS = ["messaging.courier.courier.Courier"]
#: How often a host looks for messages to send when no hint arrives.
OUTBOX_POLL = _seconds("OUTBOX_POLL", 0.25)

CONNECT_TIMEOUT = _seconds("CONNECT_TIMEOUT", 120)
QUERY_TIMEOUT = _seconds("QUERY_TIMEOUT", 120)
KEEPALIVE_CHECK = _seconds("KEEPALIVE_CHECK", 45)  # silence after which a connection is probed
PROBE_TIMEOUT = _seconds("PROBE_TIMEOUT", 30)
RETRY_REQUEST_DELAY = _seconds("RETRY_REQUEST_DELAY", 5)  # before an unanswered probe is said once more
LIVE_BACK_THROTTLE = _seconds("LIVE_BACK_THROTTLE", 30)
PAIRING_WINDOW = _seconds("PAIRING_WINDOW", 300)
RECONNECT_GRACE = _seconds("RECONNECT_GRACE", 8)
EVENT_RETENTION = timedelta(days=env.int("EVENT_RETENTION_DAYS", default=90))
LOG_RETENTION = timedelta(days=env.int("LOG_RETENTION_DAYS", default=30))
#: Webhooks and media may be at http:// and private addresses. For tests and development only.
ALLOW_PRIVATE_URLS = env.bool("ALLOW_PRIVATE_URLS", default=False)
MEDIA_MAX_BYTES = env.int("MEDIA_MAX_BYTES", default=16_000_000)
MEDIA_URL_LIFETIME = _seconds("MEDIA_URL_LIFETIME", 3600)
MESSAGE_RETENTION = timedelta(days=env.int("MESSAGE_RETENTION_DAYS", default=365))
MEDIA_RETENTION = timedelta(days=env.int("MEDIA_RETENTION_DAYS", default=90))
PUBLIC_URL = env.str("PUBLIC_URL", default="").rstrip("/")  # where others reach this server, for media in webhooks
API_RATE = env.int("API_RATE", default=600)  # requests per minute and key
API_ACCOUNT_RATE = env.int("API_ACCOUNT_RATE", default=600)  # requests that send, per minute and account
API_FAILURES = env.int("API_FAILURES", default=20)  # wrong keys per 5 minutes and address
API_MAX_BODY = env.int("API_MAX_BODY", default=2 * MEDIA_MAX_BYTES)
DATA_UPLOAD_MAX_MEMORY_SIZE = API_MAX_BODY
WEBHOOK_TIMEOUT = _seconds("WEBHOOK_TIMEOUT", 15)
WEBHOOK_GIVE_UP = _seconds("WEBHOOK_GIVE_UP", 24 * 3600)
WEBHOOK_DISABLE_AFTER = _seconds("WEBHOOK_DISABLE_AFTER", 3 * 24 * 3600)
PACING = env.bool("PACING", default=True)  # off: no account is held to the pacing rules (tests, benches)
#: Multiplies every delay of the retry policy. 1 in production; tests and drills make it smaller.
RETRY_TIME_SCALE = env.float("RETRY_TIME_SCALE", default=1.0)
#: How often a watched page looks for changes when no hint arrives.
WATCH_INTERVAL = _seconds("WATCH_INTERVAL", 0.5)

# ---- health -----------------------------------------------------------------------------------------------------
#: Bytes all processes on this machine may use together; 0: the container's limit, else the machine's memory.
MEMORY_LIMIT = env.int("MEMORY_LIMIT_MB", default=0) * 1_000_000
COLLECT_INTERVAL = _seconds("COLLECT_INTERVAL", 5)  # between two writes of request counts; 0: none
SLOW_QUERY = _seconds("SLOW_QUERY", 0.5)  # a statement that takes longer is written down
HEALTH_DETAIL = timedelta(hours=env.int("HEALTH_DETAIL_HOURS", default=26))  # readings and minutes are kept so long
HEALTH_HOURLY = timedelta(days=env.int("HEALTH_HOURLY_DAYS", default=90))
HEALTH_DAILY = timedelta(days=env.int("HEALTH_DAILY_DAYS", default=1825))
INCIDENT_RETENTION = timedelta(days=env.int("INCIDENT_RETENTION_DAYS", default=365))

# ---- backup -----------------------------------------------------------------------------------------------------
BACKUP_URL = env.str("BACKUP_URL", default=str(VAR_DIR / "backups"))  # a folder, or a URL fsspec knows
BACKUP_KEY = env.str("BACKUP_KEY", default="")
BACKUP_KEY_FILE = env.str("BACKUP_KEY_FILE", default=str(VAR_DIR / "backup.key"))
BACKUP_KEEP = env.int("BACKUP_KEEP", default=14)
BACKUP_MEDIA = env.bool("BACKUP_MEDIA", default=False)  # files of messages too
MAINTENANCE_WINDOW = env.str("MAINTENANCE_WINDOW", default="sun 03:30-05:30")  # "": hosts are not restarted regularly

# ---- logging ----------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "waserver.log_lines.Lines", "form": env.str("LOG_FORMAT", default="auto")}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        "channels_redis": {"level": "WARNING"},
        "apprise": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        "twisted": {"level": "WARNING"},
    },
}

# ---- admin ------------------------------------------------------------------------------------------------------
UNFOLD = {
    "SITE_TITLE": "waserver",
    "SITE_HEADER": "waserver",
    "SITE_SYMBOL": "forum",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": ["waserver.navigation.colours", "waserver.navigation.stylesheet"],
    "SCRIPTS": ["waserver.navigation.script", "waserver.navigation.labels"],
    "COLORS": "waserver.navigation.no_inline_colours",
    "LOGIN": {"form": "waserver.two_factor.LogInForm"},
    "SHOW_LANGUAGES": True,
    "ACCOUNT": {"navigation": [{"title": lazy("Two-factor log-in"), "link": reverse_lazy("admin:two_factor")}]},
    "DASHBOARD_CALLBACK": "monitoring.dashboard.context",
    "SIDEBAR": {"show_search": True, "navigation": "waserver.navigation.sidebar"},
}
