"""Flask: `gunicorn flask_app:app`, in any of its ways, `waitress-serve` or `uwsgi`."""

from flask import Flask

from pipeline import Tracker

# At the top of the module: each process has its own, which is sent when the process ends.
tracker = Tracker()
app = Flask(__name__)


@app.get("/products/<product>")
def product(product: str) -> str:
    """A page that tracks its visitors."""
    tracker.track("product_view", properties={"product_id": product})
    return f"Product {product}"
