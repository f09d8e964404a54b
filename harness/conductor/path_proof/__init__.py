"""Does the application really use the path that a fault changes? Who is connected, and through what?

The conductor comes in. Imports fault and adapters.
"""
