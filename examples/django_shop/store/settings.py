"""Django's settings. Analytics needs none: it reads `ANALYTICS_…` from the environment."""

from pathlib import Path

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "change me"
DEBUG = True
INSTALLED_APPS = ["shop"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "shop.middleware.track_page_views",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
ROOT_URLCONF = "store.urls"
WSGI_APPLICATION = "store.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        # Two orders at once: the second waits for the first.
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    },
}
TIME_ZONE = "UTC"
USE_TZ = True
