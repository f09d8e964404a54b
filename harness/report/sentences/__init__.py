"""What is said of a run, and text from outside made safe. Every sentence has a condition.

All forms of the report come in. Imports analysis and model.
"""
