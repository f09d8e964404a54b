"""After the load, in processes of their own: is the target well, and are acknowledged writes there?

process comes in. Nothing of the load that went before is left in them.
"""
