"""Rendered pumpkins with exact masks: cut-outs, scenes, data sets and clips, all from a seed.

noise -> solid (ray casting, shading) -> pumpkin, props -> scene (with ground and film) -> dataset, clip.
"""
