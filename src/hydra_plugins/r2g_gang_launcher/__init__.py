"""hydra/launcher=gang: jobs of a multirun that share a frozen llm, in one process. Hydra imports it at every start."""
