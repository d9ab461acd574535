"""`from ziggurat import Client`: a pyramid's service from Python (docs/service.md)."""

from pipelines.client.client import Client
from pipelines.client.errors import ServiceError, UnreachableError
from pipelines.client.transport import Retries

__all__ = ["Client", "Retries", "ServiceError", "UnreachableError"]
