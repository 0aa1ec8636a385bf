"""python -m r2g.dashboard: a W&B workspace and report that compare budgets, built offline."""
