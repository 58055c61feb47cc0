"""How many people: users of a range, new and returning, active ones, and those who came back."""
