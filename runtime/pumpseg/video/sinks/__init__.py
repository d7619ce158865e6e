"""Where results go: videos, images, JSON, raw frames."""
