"""Labels of other tools to ours and back: a module a format, all by way of `LabelledSet`."""
