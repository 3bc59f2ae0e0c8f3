"""Kills processes at each step of the pipeline and looks whether anything was lost or paid twice.

The project has two doors to the world, one to Redis and one to the upstream. `doors` puts a hook before
and after every step through them; the project itself knows nothing of it.
"""
