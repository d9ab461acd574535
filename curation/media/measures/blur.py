"""Blur: the variance of OpenCV's Laplacian on five uniform frames (report, section 2.1.2).

The report calls a clip blurry when a majority of the five lies below a threshold. That is the case exactly when their
median does, so the score is one column, `sharpness`, and the five variances are kept beside it.
"""

from __future__ import annotations

from statistics import median

import cv2

from curation.identity import fingerprint
from curation.media.pictures.geometry import Plane


def sharpness_fingerprint(score_side: int) -> str:
    """Of scores at this short side (`MediaPlan.score_side`)."""
    side = {"side": score_side} if score_side else {}
    return fingerprint("laplacian", 1, {"ksize": 1, "frames": 5} | side)


def laplacian_variance(luma: Plane) -> float:
    """Variance of the Laplacian (aperture 1) of one frame's luma, in grey levels squared."""
    _, deviation = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S, ksize=1))
    return float(deviation[0, 0]) ** 2


def sharpness(variances: tuple[float, ...]) -> float:
    """The median: below a threshold exactly when the majority of an odd number of variances is."""
    return float(median(variances))
