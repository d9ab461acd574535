from tests.curation.pyramid.conftest import pyramid

__all__ = ["pyramid"]
