"""Data sets on disk looked at: faults, figures, a contact sheet; and divided anew."""
