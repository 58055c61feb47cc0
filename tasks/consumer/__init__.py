"""The batch consumer: how an event worker takes messages and counts them."""
