"""The pytest plug-in: fixtures and a marker, for tests of a service by its own developers.

pytest comes in, by the entry point `resilience`. Imports of the harness nothing but `harness.api`, and not before a
test asks for something: every pytest of an environment loads this.
"""
