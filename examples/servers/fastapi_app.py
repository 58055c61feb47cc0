"""FastAPI: `uvicorn fastapi_app:app`, with `--workers` too, or gunicorn with uvicorn's worker."""

from fastapi import FastAPI

from pipeline import AsyncTracker

# At the top of the module: each process has its own, which is sent when the process ends. In
# functions that are not async, `Tracker` is the one to use.
tracker = AsyncTracker()
app = FastAPI()


@app.get("/products/{product}")
async def product(product: str) -> str:
    """A page that tracks its visitors."""
    await tracker.track("product_view", properties={"product_id": product})
    return f"Product {product}"
