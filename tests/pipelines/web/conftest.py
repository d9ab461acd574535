from tests.support.service import client, curated, place, pyramid, served, stranger

__all__ = ["client", "curated", "place", "pyramid", "served", "stranger"]
