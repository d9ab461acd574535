from tests.support.service import client, curated, place, pyramid, served, stranger, whole_working, working

__all__ = ["client", "curated", "place", "pyramid", "served", "stranger", "whole_working", "working"]
