"""report.html: one self-contained file of at most 400 KB, its charts SVG. All that it shows is escaped.

files.py comes in. Imports findings and sentences.
"""
