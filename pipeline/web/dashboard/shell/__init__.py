"""What all pages have: the frame around them, and the macros that their templates use."""
