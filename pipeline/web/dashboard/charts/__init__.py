"""Charts as SVG, each with a sentence that says what it shows and a table of its numbers."""
