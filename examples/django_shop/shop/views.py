"""The pages of the shop."""

from collections import Counter
from decimal import Decimal
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from pipeline import track_event
from shop.middleware import tracker
from shop.models import Order, Product


class SoldOut(Exception):
    """A product of the cart is no longer in stock."""


@require_GET
def list_products(request: HttpRequest) -> HttpResponse:
    """Show all products."""
    return render(request, "shop/products.html", {"products": Product.objects.all()})


@require_GET
def show_product(request: HttpRequest, name: str) -> HttpResponse:
    """Show one product."""
    return render(request, "shop/product.html", {"product": get_object_or_404(Product, name=name)})


@require_GET
def show_cart(request: HttpRequest) -> HttpResponse:
    """Show what is in the cart, and what it costs."""
    cart = request.session.get("cart", [])
    return render(request, "shop/cart.html", {"cart": cart, "total": add_up(cart)})


@require_POST
def add_to_cart(request: HttpRequest) -> HttpResponse:
    """Put a product into the cart. The first one begins an order."""
    product = get_object_or_404(Product, name=request.POST["product"])
    request.session["cart"] = [*request.session.get("cart", []), product.name]
    request.session.setdefault("order", uuid4().hex)
    visitor = request.session["visitor"]
    tracker.track("add_to_cart", user_id=visitor, properties={"product": product.name})
    return redirect("cart")


@require_POST
def check_out(request: HttpRequest) -> HttpResponse:
    """Sell what is in the cart."""
    cart = request.session.get("cart")
    if not cart:
        return redirect("cart")
    try:
        place_order(UUID(request.session["order"]), request.session["visitor"], cart)
    except SoldOut as sold_out:
        context = {"cart": cart, "total": add_up(cart), "sold_out": sold_out}
        return render(request, "shop/cart.html", context, status=409)
    del request.session["cart"], request.session["order"]
    return redirect("thanks")


@require_GET
def thank(request: HttpRequest) -> HttpResponse:
    """Thank for an order."""
    return render(request, "shop/thanks.html")


@transaction.atomic
def place_order(order_id: UUID, visitor: str, cart: list[str]) -> None:
    """Store an order and its event: both, or neither. A repeat changes nothing. Raises SoldOut."""
    order, is_new = Order.objects.get_or_create(
        id=order_id, defaults={"visitor": visitor, "items": len(cart), "total": add_up(cart)}
    )
    track_event.delay_on_commit(
        "sale",
        user_id=visitor,
        properties={"total": order.total, "items": order.items},
        event_id=f"order-{order.id}",
    )
    if is_new:
        take_from_stock(cart)


def take_from_stock(cart: list[str]) -> None:
    """Take each product of a cart from the shelf. Raises SoldOut."""
    for name, wanted in Counter(cart).items():
        on_shelf = Product.objects.filter(name=name, stock__gte=wanted)
        if not on_shelf.update(stock=F("stock") - wanted):
            raise SoldOut(f"{name} is sold out")


def add_up(cart: list[str]) -> Decimal:
    """The price of all that is in a cart."""
    prices = dict(Product.objects.values_list("name", "price"))
    return sum((prices[name] for name in cart), Decimal("0.00"))
