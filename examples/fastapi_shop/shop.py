"""The API of a small shop in FastAPI that sends `page_view`, `add_to_cart` and `sale` events."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

from pipeline import AsyncTracker

PRODUCTS = {"mug": Decimal("12.50"), "poster": Decimal("9.00"), "lamp": Decimal("49.00")}


class Product(BaseModel):
    """A product, and what it costs."""

    name: str
    price: Decimal


class Item(BaseModel):
    """What is put into a cart."""

    product: str


class Cart(BaseModel):
    """The products in a cart or an order, and what they cost together."""

    products: list[str] = []
    total: Decimal = Decimal("0.00")


app = FastAPI(title="Shop")
tracker = AsyncTracker()
# In the memory of this process; a real shop has a database.
carts: dict[str, Cart] = {}
orders: dict[UUID, Cart] = {}


async def identify_visitor(
    response: Response, visitor: Annotated[str | None, Cookie()] = None
) -> str:
    """Give each client a random id in a cookie: the user id of its events."""
    if visitor is None:
        visitor = uuid4().hex
        response.set_cookie("visitor", visitor, httponly=True, samesite="lax")
    return visitor


Visitor = Annotated[str, Depends(identify_visitor)]


async def track_page_view(request: Request, visitor: Visitor) -> AsyncIterator[None]:
    """Track a page once it is made: an exception, such as the 404 below, ends this at `yield`."""
    yield
    await tracker.track("page_view", user_id=visitor, properties={"path": request.url.path})


TRACKED = [Depends(track_page_view)]


@app.get("/products", dependencies=TRACKED)
async def list_products() -> list[Product]:
    """List all products."""
    return [Product(name=name, price=price) for name, price in PRODUCTS.items()]


@app.get("/products/{name}", dependencies=TRACKED)
async def show_product(name: str) -> Product:
    """Show one product."""
    return Product(name=name, price=find_price(name))


@app.get("/cart", dependencies=TRACKED)
async def show_cart(visitor: Visitor) -> Cart:
    """Show what is in the cart, and what it costs."""
    return carts.get(visitor, Cart())


@app.post("/cart", status_code=201)
async def add_to_cart(item: Item, visitor: Visitor) -> Cart:
    """Put a product into the cart."""
    price = find_price(item.product)
    cart = carts.setdefault(visitor, Cart())
    cart.products.append(item.product)
    cart.total += price
    await tracker.track("add_to_cart", user_id=visitor, properties={"product": item.product})
    return cart


@app.put("/orders/{order}")
async def check_out(order: UUID, visitor: Visitor) -> Cart:
    """Sell what is in the cart. The client chooses the id of the order, so it may repeat this."""
    if order not in orders:
        if visitor not in carts:
            raise HTTPException(409, "The cart is empty.")
        orders[order] = carts.pop(visitor)
    sold = orders[order]
    await tracker.track(
        "sale",
        user_id=visitor,
        properties={"total": sold.total, "items": len(sold.products)},
        event_id=f"order-{order}",
    )
    await tracker.flush(timeout_s=10)
    return sold


def find_price(name: str) -> Decimal:
    """What a product costs. Raises HTTPException."""
    if name not in PRODUCTS:
        raise HTTPException(404, f"There is no product {name}.")
    return PRODUCTS[name]
