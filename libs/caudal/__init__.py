"""What Caudal's services share: the contract, the environment, the ports and their adapters, the model package.

Nothing in here knows which service calls it, and only `caudal.backends` knows which adapter serves a URI.
"""

__version__ = "0.1.0"
