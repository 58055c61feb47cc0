"""The tables, and three products."""

from decimal import Decimal

from django.db import migrations, models

PRODUCTS = (("mug", "12.50", 100), ("poster", "9.00", 100), ("lamp", "49.00", 1))


def add_products(apps, schema_editor):
    """Fill the shelves; of lamps there is one."""
    product = apps.get_model("shop", "Product")
    for name, price, stock in PRODUCTS:
        product.objects.create(name=name, price=Decimal(price), stock=stock)


class Migration(migrations.Migration):
    """The first."""

    initial = True
    operations = [  # noqa: RUF012
        migrations.CreateModel(
            "Product",
            [
                ("name", models.SlugField(primary_key=True, serialize=False)),
                ("price", models.DecimalField(decimal_places=2, max_digits=8)),
                ("stock", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            "Order",
            [
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("visitor", models.CharField(max_length=32)),
                ("items", models.PositiveIntegerField()),
                ("total", models.DecimalField(decimal_places=2, max_digits=8)),
            ],
        ),
        migrations.RunPython(add_products, migrations.RunPython.noop),
    ]
