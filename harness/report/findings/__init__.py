"""What to look at next: each piece of advice with its condition and its evidence.

html, terminal and Markdown come in. Imports sentences.
"""
