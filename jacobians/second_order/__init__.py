"""Second order: curvature in the parameters, and what it says about predictions."""
