"""The shop's own settings. The package has the name of one of the pipeline's, and does not mind."""

PRICES_CENTS = {"p-7": 1_250, "p-42": 9_900}
SHOP_NAME = "Example shop"
