"""python -m r2g.sync: finished offline runs to W&B, after a look at what would be sent."""
