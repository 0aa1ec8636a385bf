"""hydra/launcher=joblib, submitit and ray: arms by workers of Hydra's own plugins. Hydra imports it at every start."""
