"""What a plan's fingerprint covers: what decides clips, and nothing that came later and is left at its default."""

from __future__ import annotations

from dataclasses import replace

from curation.media.plan import ImagePlan, MediaPlan
from pipelines.config.recipe import load, parsed

BEFORE_IMAGES = "plan-2-affad6e6"
"""Of a plan of defaults, as pyramids from before there were images hold it."""


def test_pyramids_from_before_there_were_images_are_not_measured_again() -> None:
    assert MediaPlan().fingerprint == load("small").plan.fingerprint == load("opensora2").plan.fingerprint
    assert MediaPlan().fingerprint == BEFORE_IMAGES
    assert replace(MediaPlan(), images=ImagePlan()).fingerprint == BEFORE_IMAGES


def test_what_decides_an_image_s_clip_is_in_it() -> None:
    found = {replace(MediaPlan(), images=one).fingerprint for one in (ImagePlan(max_side=1024), ImagePlan(min_side=1))}
    assert len(found | {BEFORE_IMAGES}) == 3


def test_where_images_come_from_and_what_they_are_stored_as_is_not() -> None:
    text = 'name = "x"\n[images]\nfrom_folders = true\n[encode]\nimage = "png"\nimage_quality = 80\n'
    recipe = parsed(text, "x")
    assert recipe.plan.fingerprint == BEFORE_IMAGES
    assert (recipe.encoding.image, recipe.encoding.image_quality) == ("png", 80)
    assert parsed('name = "x"\n[images]\nmax_side = 512\n', "x").plan.images == ImagePlan(max_side=512)
