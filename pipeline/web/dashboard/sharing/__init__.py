"""What viewers share: annotations, which charts show as marks, and saved views."""
