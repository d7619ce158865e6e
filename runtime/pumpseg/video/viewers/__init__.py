"""Where results are watched: a window or a web page."""
