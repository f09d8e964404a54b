"""Before a run, in a process of its own: what does each request of the mix get?

The process's main loop comes in. Imports one generator and what is below it; never the conductor, nor the load itself.
"""
