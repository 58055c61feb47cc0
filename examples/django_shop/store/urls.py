"""The URLs of the shop."""

from django.urls import path
from shop import views

urlpatterns = [
    path("", views.list_products, name="products"),
    path("products/<slug:name>", views.show_product, name="product"),
    path("cart", views.show_cart, name="cart"),
    path("cart/add", views.add_to_cart, name="add"),
    path("checkout", views.check_out, name="checkout"),
    path("thanks", views.thank, name="thanks"),
]
