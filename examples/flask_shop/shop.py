"""A small shop in Flask that sends `page_view`, `add_to_cart` and `sale` events."""

from decimal import Decimal
from uuid import uuid4

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug import Response

from pipeline import Tracker, track_event

PRODUCTS = {"mug": Decimal("12.50"), "poster": Decimal("9.00"), "lamp": Decimal("49.00")}

app = Flask(__name__)
app.secret_key = "change me"  # signs the cookie that holds the visitor and the cart
tracker = Tracker()


@app.before_request
def identify_visitor() -> None:
    """Give each browser a random id: the user id of its events."""
    session.setdefault("visitor", uuid4().hex)


@app.after_request
def track_page_view(response: Response) -> Response:
    """Track each page that is shown."""
    if request.method == "GET" and response.status_code == 200:
        tracker.track("page_view", user_id=session["visitor"], properties={"path": request.path})
    return response


@app.get("/")
def list_products() -> str:
    """Show all products."""
    return render_template("products.html", products=PRODUCTS)


@app.get("/products/<product>")
def show_product(product: str) -> str:
    """Show one product."""
    if product not in PRODUCTS:
        abort(404)
    return render_template("product.html", product=product, price=PRODUCTS[product])


@app.get("/cart")
def show_cart() -> str:
    """Show what is in the cart, and what it costs."""
    cart = session.get("cart", [])
    return render_template("cart.html", cart=cart, total=add_up(cart))


@app.post("/cart")
def add_to_cart() -> Response:
    """Put a product into the cart. The first one begins an order."""
    product = request.form["product"]
    if product not in PRODUCTS:
        abort(404)
    session["cart"] = [*session.get("cart", []), product]
    session.setdefault("order", uuid4().hex)
    tracker.track("add_to_cart", user_id=session["visitor"], properties={"product": product})
    return redirect(url_for("show_cart"))


@app.post("/checkout")
def check_out() -> Response:
    """Sell what is in the cart."""
    cart = session.get("cart")
    if not cart:
        return redirect(url_for("show_cart"))
    # A real shop stores the order here.
    track_event.delay(
        "sale",
        user_id=session["visitor"],
        properties={"total": add_up(cart), "items": len(cart)},
        event_id=f"order-{session['order']}",
    )
    del session["cart"], session["order"]
    return redirect(url_for("thank"))


@app.get("/thanks")
def thank() -> str:
    """Thank for an order."""
    return render_template("thanks.html")


def add_up(cart: list[str]) -> Decimal:
    """The price of all that is in a cart."""
    return sum((PRODUCTS[product] for product in cart), Decimal("0.00"))
