"""Masks between their forms: pasted pixels, COCO RLE, polygons."""
