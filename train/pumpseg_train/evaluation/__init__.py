"""How good a model is: COCO AP, false alarms, and pictures of the results."""
