"""The application's path to a dependency: where it is, what a probe sees there, whether it answers normally again.

All families come in. Injects nothing, imports no family.
"""
