"""python -m r2g.compare: records of runs -> fairness, statistics, tables and pictures; reads records only."""
