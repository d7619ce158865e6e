"""Many inputs, one result each: resumable, in parallel, on one machine or on a Ray cluster."""
