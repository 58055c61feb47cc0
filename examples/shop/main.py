"""A small shop that tracks what its visitors do. See README.md beside this file."""

from uuid import uuid4

from config import PRICES_CENTS
from pipeline import track_event
from tasks import send_receipt


def view(user: str, path: str) -> None:
    """A visitor looks at a page."""
    track_event.delay("page_view", user_id=user, properties={"path": path})


def click(user: str, product: str) -> None:
    """A visitor clicks on a product."""
    track_event.delay("product_click", user_id=user, properties={"product_id": product})


def buy(user: str, product: str) -> str:
    """A visitor buys a product; returns the receipt."""
    order = uuid4().hex
    track_event.delay(
        "purchase",
        user_id=user,
        properties={"product_id": product, "amount_cents": PRICES_CENTS[product]},
        # Should this order be tracked again, by a retried request say, it is not counted again.
        event_id=f"order-{order}",
    )
    return str(send_receipt.apply((order, user)).get())


def main() -> None:
    """An hour in the life of the shop."""
    for path in ("/", "/products", "/products/p-42"):
        view("ada", path)
    view("grace", "/")
    click("ada", "p-42")
    click("grace", "p-7")
    print(buy("ada", "p-42"))
    print("Sent 4 page_view, 2 product_click and 1 purchase events.")


if __name__ == "__main__":
    main()
