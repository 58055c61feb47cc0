"""Products and orders."""

from django.db import models


class Product(models.Model):
    """What is for sale, and how many of it are left."""

    name = models.SlugField(primary_key=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField()


class Order(models.Model):
    """What a visitor has bought."""

    id = models.UUIDField(primary_key=True)
    visitor = models.CharField(max_length=32)
    items = models.PositiveIntegerField()
    total = models.DecimalField(max_digits=8, decimal_places=2)
