"""hydra/launcher=process: each job of a multirun in a process of its own. Hydra imports it at every start."""
