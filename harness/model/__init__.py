"""The records and words everything else speaks. Imports nothing else of the harness."""
