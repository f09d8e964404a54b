"""What several families share: the proxy, the processes or the container meant, and the application's path.

All families come in. Injects nothing.
"""
