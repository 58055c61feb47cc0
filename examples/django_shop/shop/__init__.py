"""The shop: products, carts and orders, and the events that they send."""
