"""report.html: one self-contained file. The template escapes everything.

files.py comes in. Imports findings and sentences.
"""
