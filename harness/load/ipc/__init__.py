"""What the processes of the load and the conductor say to each other, over pipes and CURVE, and the keys.

All rooms of the load come in, and the conductor. Imports no locust.
"""
