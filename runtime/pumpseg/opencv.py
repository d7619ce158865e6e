"""OpenCV. No base dependency brings it: desktops need one wheel, servers without libGL another."""

from pumpseg import wheels
from pumpseg.errors import MissingPackageError, first_line

try:
    import cv2 as cv2
except ImportError as error:
    raise MissingPackageError(
        f"cv2 cannot be imported ({first_line(error)}): {wheels.opencv_repair_command(first_line(error))}", name="cv2"
    ) from None
if damage := wheels.damage(cv2, "imread"):
    raise MissingPackageError(f"{damage}: {wheels.opencv_repair_command(damage)}", name="cv2")
