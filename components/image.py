"""The image that components run in, unless a pipeline's `image` parameter names another."""

from endcap import __version__

IMAGE = f"endcap:{__version__}"
"""Built from this library and its lock; every component is a call into it, so nothing is installed in a pod."""
