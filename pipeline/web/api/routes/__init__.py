"""The stats API's routes, one module for what each is about."""
