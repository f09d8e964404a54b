"""What one generator saw, by 100 ms step of the intended start: rows of windows.jsonl, and Locust's own statistics.

generator, master and after_load come in. Sends nothing.
"""
